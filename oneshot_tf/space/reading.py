"""Reads many architectures of one space. It parses and checks each choice of a block once."""

from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.space import Space


class Reader:
    """Callable: `reader(text)` is the same as `Architecture.from_text` and `space.check`.

    A space has few choices for a block, 868 for the last block of the paper's cell. So nearly all
    blocks of a long file repeat earlier ones. Architectures share them, which saves time and
    memory.

    Args:
        space: The search space of the architectures.
    """

    def __init__(self, space: Space):
        self.space = space
        # The known choices of each block, by text.
        self._known: list[dict[str, Choice]] = [{} for _ in space.all_on().blocks]

    def __call__(self, text: str) -> Architecture:
        """Returns the architecture that a text describes.

        Raises:
            InputError: `text` has another form, or the space has no such architecture.
        """
        try:
            pairs = zip(self._known, text.split(" | "), strict=True)
            return Architecture(tuple([known[part] for known, part in pairs]))
        except (KeyError, ValueError):  # new, spaced or sorted differently, or damaged
            architecture = Architecture.from_text(text)
        self.space.check(architecture)
        choices = zip(self._known, architecture.blocks)
        return Architecture(tuple([known.setdefault(str(c), c) for known, c in choices]))
