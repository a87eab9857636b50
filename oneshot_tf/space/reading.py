"""Reading many architectures of one space: each block's choices are parsed and checked once."""

from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.cell_space import CellSpace


class Reader:
    """Reads texts of architectures, one a call, as `Architecture.from_text` and `space.check` do.

    A space has few choices for a block (868 for the last block of the paper's cell), so nearly
    all blocks of a long file were met before. Architectures share them, which saves memory.

    Args:
        space: which the architectures must belong to.
    """

    def __init__(self, space: CellSpace):
        self.space = space
        # Choices of each block, by text.
        self._known: list[dict[str, Choice]] = [{} for _ in range(space.num_blocks)]

    def __call__(self, text: str) -> Architecture:
        """The architecture.

        Raises:
            InputError: `text` has another form, or the space has no such architecture.
        """
        try:
            pairs = zip(self._known, text.split(" | "), strict=True)
            return Architecture(tuple([known[part] for known, part in pairs]))
        except (KeyError, ValueError):  # not met before, spaced or sorted otherwise, or damaged
            architecture = Architecture.from_text(text)
        self.space.check(architecture)
        choices = zip(self._known, architecture.blocks)
        return Architecture(tuple([known.setdefault(str(c), c) for known, c in choices]))
