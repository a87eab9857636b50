"""Default batch sizes and numbers of steps: the paper's, or smaller ones for small data sets."""

import dataclasses

from oneshot_tf.settings import OneShotSettings, TrainSettings

PAPER_BATCH, PAPER_STEPS = 1024, 10_000  # section 4.1
_PAPER_IMAGES = 45_000  # CIFAR-10's training images
_STEPS_A_PASS = 4  # at least, for a small data set


def default_batch_size(num_images: int, ghost_batch_size: int = 32) -> int:
    """Returns the size of the global batch of the one-shot model for a data set.

    The paper takes 1,024 images, which are 32 ghost batches of 32 (section 4.1). With constant
    dropout rates, at least 16 ghost batches helped to stabilise training (footnote 1). A data
    set of fewer than 4,096 images gets fewer ghost batches, so that a pass takes at least four
    steps. The result is at least one ghost batch.

    Args:
        num_images: The number of training images, at least 1.
        ghost_batch_size: Images that share batch statistics.
    """
    most = max(1, PAPER_BATCH // ghost_batch_size)
    ghosts = num_images // (_STEPS_A_PASS * ghost_batch_size)
    return ghost_batch_size * min(most, max(1, ghosts))


def default_train_steps(num_images: int, batch_size: int) -> int:
    """Returns the number of steps for as many passes as the paper makes over CIFAR-10.

    The paper makes 228 passes in 10,000 steps. The result is at most 10,000.

    Args:
        num_images: The number of training images, at least 1.
        batch_size: Images in a step.
    """
    steps = round(PAPER_STEPS * PAPER_BATCH / _PAPER_IMAGES * num_images / batch_size)
    return min(PAPER_STEPS, max(1, steps))


def with_sizes(
    train: TrainSettings, one_shot: OneShotSettings, num_images: int = _PAPER_IMAGES
) -> tuple[TrainSettings, OneShotSettings]:
    """Returns the settings. A batch size or a number of steps that is 0 becomes its default.

    Args:
        train: How weights are trained.
        one_shot: The training of the one-shot model.
        num_images: The number of training images. The default is the paper's.
    """
    batch = train.batch_size or default_batch_size(num_images, train.ghost_batch_size)
    steps = one_shot.train_steps or default_train_steps(num_images, batch)
    return (
        dataclasses.replace(train, batch_size=batch),
        dataclasses.replace(one_shot, train_steps=steps),
    )
