"""One point of a search space: which inputs and operations each block uses.

An architecture knows nothing of the space it belongs to, of masks, or of
weights; `CellSpace` checks it and turns it into masks.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence

from oneshot_tf.system.errors import InputError, short

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_EXAMPLE = "prev1+prev2:sep3x3 | block0:identity+max3x3"
_MAX_TEXT = 10_000


@dataclasses.dataclass(frozen=True, order=True)
class Choice:
    """What one choice block uses (section 3.1).

    Example:

        >>> Choice(inputs=("prev1",), operations=("sep3x3",)).inputs
        ('prev1',)

    Args:
        inputs: names of the tensors it reads: `prev2` and `prev1` (outputs of
            the two previous cells) and `block0`, `block1`, … (earlier blocks
            of the same cell). At least one; kept sorted.
        operations: names of the operations applied to the 1x1 convolution of
            those inputs, and summed. At least one; kept sorted.
    """

    inputs: tuple[str, ...]
    operations: tuple[str, ...]

    def __post_init__(self):
        for kind in ("inputs", "operations"):
            names = getattr(self, kind)
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise InputError(f"{kind}={names!r} should be a list of names.")
            for name in names:
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise InputError(
                        f"{name!r} is not a name of one of the {kind}: names are lower-case "
                        f"letters, digits and '_', as in {_EXAMPLE!r}."
                    )
            if not names:
                raise InputError(f"A block without {kind}: each needs at least one.")
            if len(set(names)) != len(names):
                raise InputError(f"{kind}={'+'.join(names)} names one of them twice.")
            object.__setattr__(self, kind, tuple(sorted(names)))

    @functools.cached_property
    def _text(self) -> str:
        return "+".join(self.inputs) + ":" + "+".join(self.operations)

    def __str__(self):
        return self._text

    def __hash__(self):
        return hash(self._text)  # a text remembers its own; equal choices have equal texts


@dataclasses.dataclass(frozen=True, order=True)
class Architecture:
    """A cell: the choices of its blocks, in order. Every cell of a net is the same.

    Hashable and comparable; equal architectures have equal texts.

    >>> a = Architecture.from_text("prev1+prev2:sep3x3 | block0:max3x3+identity")
    >>> str(a)
    'prev1+prev2:sep3x3 | block0:identity+max3x3'
    """

    blocks: tuple[Choice, ...]

    def __post_init__(self):
        if not self.blocks:
            raise InputError(f"An architecture needs at least one block, as in {_EXAMPLE!r}.")
        object.__setattr__(self, "blocks", tuple(self.blocks))

    @functools.cached_property
    def _text(self) -> str:
        return " | ".join([block._text for block in self.blocks])

    def __str__(self):
        return self._text

    def __hash__(self):
        return hash(self._text)

    @classmethod
    def from_text(cls, text: str) -> "Architecture":
        """Reads what `str` writes; spaces do not matter.

        Raises:
            InputError: `text` has another form.
        """
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise InputError(f"An architecture is a text of at most {_MAX_TEXT} characters.")
        blocks = []
        for index, part in enumerate(text.split("|")):
            fields = "".join(part.split()).split(":")
            if len(fields) != 2:
                raise InputError(
                    f"Block {index} of architecture {short(text)} must be 'inputs:operations', "
                    f"blocks separated by '|', for example {_EXAMPLE!r}; got "
                    f"{short(part.strip())}."
                )
            try:
                blocks.append(Choice(*(tuple(field.split("+")) for field in fields)))
            except InputError as error:
                raise InputError(f"Block {index} of architecture {short(text)}: {error}") from None
        return cls(tuple(blocks))

    def to_json(self) -> str:
        """The architecture as JSON: `{"blocks": [{"inputs": […], "operations": […]}, …]}`."""
        return json.dumps(
            {"blocks": [{"inputs": b.inputs, "operations": b.operations} for b in self.blocks]}
        )

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Reads what `to_json` writes.

        Raises:
            InputError: `text` is not that JSON.
        """
        try:
            blocks = json.loads(text)["blocks"]
            pairs = [(block["inputs"], block["operations"]) for block in blocks]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"This is not the JSON of an architecture ({type(error).__name__}: {error}). "
                'Example: {"blocks": [{"inputs": ["prev1"], "operations": ["sep3x3"]}, ...]}.'
            ) from None
        return cls(tuple(Choice(*pair) for pair in pairs))
