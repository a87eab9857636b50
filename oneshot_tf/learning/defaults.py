"""Sizes of a training that nobody gave: the paper's, or what suits a small data set."""

import dataclasses

from oneshot_tf.settings import OneShotSettings, TrainSettings

PAPER_BATCH, PAPER_STEPS = 1024, 10_000  # section 4.1
_PAPER_IMAGES = 45_000  # CIFAR-10's training images
_STEPS_A_PASS = 4  # at least, on a small data set


def default_batch_size(num_images: int, ghost_batch_size: int = 32) -> int:
    """The global batch of the one-shot model for a data set of any size.

    The paper takes 1,024 images, which are 32 ghost batches of 32 (section 4.1). With constant
    dropout rates, at least 16 ghost batches helped to stabilise training (footnote 1). A data
    set of fewer than 4,096 images gets fewer, so that a pass takes four steps, but at least
    one ghost batch.

    Args:
        num_images: training images, at least 1.
        ghost_batch_size: images that share batch statistics.
    """
    most = max(1, PAPER_BATCH // ghost_batch_size)
    ghosts = num_images // (_STEPS_A_PASS * ghost_batch_size)
    return ghost_batch_size * min(most, max(1, ghosts))


def default_train_steps(num_images: int, batch_size: int) -> int:
    """Steps that make as many passes over a data set as the paper's 10,000 over CIFAR-10.

    That is 228 passes, in 10,000 steps at most.

    Args:
        num_images: training images, at least 1.
        batch_size: images in a step.
    """
    steps = round(PAPER_STEPS * PAPER_BATCH / _PAPER_IMAGES * num_images / batch_size)
    return min(PAPER_STEPS, max(1, steps))


def with_sizes(
    train: TrainSettings, one_shot: OneShotSettings, num_images: int = _PAPER_IMAGES
) -> tuple[TrainSettings, OneShotSettings]:
    """Settings whose batch size and number of steps are given, where they were 0.

    Args:
        train: how weights are trained.
        one_shot: the training of the one-shot model.
        num_images: training images; the paper's by default.
    """
    batch = train.batch_size or default_batch_size(num_images, train.ghost_batch_size)
    steps = one_shot.train_steps or default_train_steps(num_images, batch)
    return (
        dataclasses.replace(train, batch_size=batch),
        dataclasses.replace(one_shot, train_steps=steps),
    )
