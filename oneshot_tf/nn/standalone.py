"""A stand-alone net: one architecture, built alone and trained from scratch."""

from oneshot_tf.nn.network import Network, new_parts
from oneshot_tf.nn.paths import AllPaths
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import CellSpace
from oneshot_tf.space.stacking import Stack


class Standalone(Network):
    """One architecture as a net of its own (section 3.4).

    Only what the architecture uses is built: its paths, and of the cells those
    that its output depends on. Batch norms use the statistics of ghost batches
    in training and moving averages otherwise, so an image is classified alone
    as it is in a batch.

    Args:
        space: the space of the architecture.
        architecture: what to build; All On too.
        stack: how many cells, how wide (the paper's F, to scale by), and where they shrink.
        num_classes: K.
        seed: of the initial weights.
        dtype: a Keras dtype policy, such as "mixed_bfloat16".

    Call arguments:
        images: normalised images, float `[B, H, W, 3]`.
        training: whether batch norms use (and average) the batch's statistics.
        num_ghosts: ghost batches in the batch, when training.
        turn: see `GhostBatchNorm`.

    Returns:
        Logits, float32 `[B, K]`.
    """

    def __init__(
        self,
        space: CellSpace,
        architecture: Architecture,
        stack: Stack,
        num_classes=10,
        seed=0,
        dtype=None,
    ):
        parts = new_parts(True, dtype, seed)
        super().__init__(space, stack, architecture, num_classes, parts, name="standalone")
        self.architecture = architecture

    def __call__(self, images, training=False, num_ghosts=1, turn=(0, 1)):
        # Keras takes only tensors by position; `training` may be given so here.
        return super().__call__(images, training=training, num_ghosts=num_ghosts, turn=turn)

    def call(self, images, training=False, num_ghosts=1, turn=(0, 1)):
        stem = self.stem_of(images, num_ghosts, training, turn)
        return self._logits(stem, AllPaths(), num_ghosts, training, turn)

    def part_outputs(self, images) -> dict:
        """The outputs of stem, cells and classifier by name, of one ghost batch in training."""
        stem = self.stem_of(images, 1, training=True)
        return dict(self._outputs(stem, AllPaths(), 1, training=True))
