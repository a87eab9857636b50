"""Sizes that nobody gave: the paper's where it has them, fewer images a step for small sets."""

import pytest

from oneshot_tf.learning.defaults import default_batch_size, default_train_steps


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
