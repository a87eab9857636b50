"""Sizes that nobody gave: the paper's where it has them, fewer images a step for small sets."""

import pytest

import oneshot_tf as ost
from oneshot_tf import settings, train
from oneshot_tf.learning.defaults import default_batch_size, default_train_steps
from oneshot_tf.learning.steps import count_micro_batches
from oneshot_tf.runs.config_file import facts_of
from oneshot_tf.runs.directory import RunDirectory


def test_cifar_gets_the_papers():
    assert default_batch_size(45_000) == 1024
    assert default_train_steps(45_000, 1024) == 10_000


@pytest.mark.parametrize(
    "images, ghost, batch, steps",
    [
        (20, 32, 32, 142),  # larger than the set: refused later, with the way out
        (100, 32, 32, 711),
        (2_000, 32, 480, 948),
        (4_096, 32, 1024, 910),
        (2_000, 16, 496, 918),
        (1_281_167, 32, 1024, 10_000),
        (5_000, 2_048, 2_048, 556),
    ],
)
def test_small_sets_get_fewer_images_a_step(images, ghost, batch, steps):
    assert default_batch_size(images, ghost) == batch
    assert default_train_steps(images, batch) == steps


def test_a_pass_takes_four_steps_and_a_step_whole_ghost_batches():
    for images in range(128, 6_000, 37):
        for ghost in (8, 32):
            batch = default_batch_size(images, ghost)
            assert batch % ghost == 0 and batch <= 1024 and 4 * batch <= images


UNSET = settings.TrainSettings(batch_size=0), settings.OneShotSettings(train_steps=0)


def sizes(directory, dataset, distribution="auto", given=UNSET):
    data = settings.DataSettings(dataset=dataset)
    chosen, one_shot, _ = train._sizes(directory, data, *given, distribution)
    return chosen.batch_size, one_shot.train_steps


def test_train_takes_the_papers_sizes_without_reading_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_data", None)
    assert sizes(RunDirectory(tmp_path), "cifar10") == (1024, 10_000)
    given = settings.TrainSettings(batch_size=64), settings.OneShotSettings(train_steps=7)
    assert sizes(RunDirectory(tmp_path), "folder:nowhere", given=given) == (64, 7)


def test_train_says_what_it_chose_for_a_small_set(tmp_path, capsys):
    assert sizes(RunDirectory(tmp_path), "digits") == (320, 959)
    assert capsys.readouterr().out == (
        "For 1,348 training images: --batch_size=320 (10 ghost batches), --train_steps=959 "
        "(228 passes over the data).\n"
    )


def test_devices_that_must_meet_first_need_the_sizes(tmp_path):
    with pytest.raises(ost.InputError, match="must be set for --distribution=multi_worker"):
        sizes(RunDirectory(tmp_path), "digits", "multi_worker")


def test_a_run_goes_on_with_its_own_sizes(tmp_path, digits):
    directory = RunDirectory(tmp_path)
    groups = {
        "train": settings.TrainSettings(batch_size=96),
        "one_shot": settings.OneShotSettings(train_steps=5),
    }
    directory.begin(groups, ost.bender2018(1), [], facts_of(digits))
    assert sizes(directory, "digits") == (96, 5)


def test_a_step_has_at_least_one_image():
    with pytest.raises(ost.InputError, match="--batch_size must be at least 1; got 0"):
        count_micro_batches(0, 32, 64, 1)
