"""One point of a search space: the choices of its blocks or layers.

An architecture does not know its space, masks, or weights. A space checks architectures and turns
them into masks.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence

from oneshot_tf.system.errors import InputError, short

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_EXAMPLE = "prev1+prev2:sep3x3 | block0:identity+max3x3"
_EXAMPLES = f"'{_EXAMPLE}' (a cell) or 'mb3k5 | skip' (a chain)"
_MAX_TEXT = 10_000


@dataclasses.dataclass(frozen=True, order=True)
class Choice:
    """The inputs and operations of one choice block (section 3.1), or the operation of a layer.

    Example:

        >>> Choice(inputs=("prev1",), operations=("sep3x3",)).inputs
        ('prev1',)

    Args:
        inputs: Names of the tensors that the block reads. They are `prev2` and `prev1` (outputs of
            the two previous cells) and `block0`, `block1`, … (earlier blocks of the same cell). The
            names are sorted. A layer of a chain has none, because it reads the layer before.
        operations: Names of the operations, at least one. They apply to the 1x1 convolution of the
            inputs, and their results are summed. The names are sorted.

    Raises:
        InputError: A value is not a list of different names, or there is no operation.
    """

    inputs: tuple[str, ...]
    operations: tuple[str, ...]

    def __post_init__(self):
        for kind in ("inputs", "operations"):
            names = getattr(self, kind)
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise InputError(f"`{kind}` must be a list of names; got {names!r}.")
            for name in names:
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise InputError(
                        f"`{kind}` must be names of lower-case letters, digits and '_', as in "
                        f"{_EXAMPLE!r}; got {name!r}."
                    )
            if not names and kind == "operations":
                raise InputError(f"`{kind}` of a block must hold at least one name; got none.")
            if len(set(names)) != len(names):
                raise InputError(f"`{kind}` must hold each name once; got {'+'.join(names)}.")
            object.__setattr__(self, kind, tuple(sorted(names)))

    @functools.cached_property
    def _text(self) -> str:
        operations = "+".join(self.operations)
        return "+".join(self.inputs) + ":" + operations if self.inputs else operations

    def __str__(self):
        return self._text

    def __hash__(self):
        return hash(self._text)  # a string caches its hash; equal choices have equal texts


@dataclasses.dataclass(frozen=True, order=True)
class Architecture:
    """The choices of the blocks of a cell, or of the layers of a chain, in order.

    All cells of a model are the same.

    Architectures are hashable and ordered. Equal architectures have equal texts.

    Example:

        >>> a = Architecture.from_text("prev1+prev2:sep3x3 | block0:max3x3+identity")
        >>> str(a)
        'prev1+prev2:sep3x3 | block0:identity+max3x3'

    Args:
        blocks: The choices of the blocks or layers, at least one.

    Raises:
        InputError: There is no block, or some have inputs and some have none.
    """

    blocks: tuple[Choice, ...]

    def __post_init__(self):
        if not self.blocks:
            raise InputError(f"An architecture must have at least one block, as in {_EXAMPLES}.")
        if len({bool(block.inputs) for block in self.blocks}) > 1:
            raise InputError(
                "An architecture must consist of blocks of a cell, which have inputs, or of layers "
                f"of a chain, which have none; as in {_EXAMPLES}."
            )
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
        """Reads an architecture from the text that `str` gives. Spaces do not matter.

        Raises:
            InputError: `text` has another form.
        """
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise InputError(f"An architecture must be a text of at most {_MAX_TEXT} characters.")
        blocks = []
        for index, part in enumerate(text.split("|")):
            fields = [tuple(field.split("+")) for field in "".join(part.split()).split(":")]
            if len(fields) > 2:
                raise InputError(
                    f"Block {index} of architecture {short(text)} must be 'inputs:operations' or "
                    f"'operation'; got {short(part.strip())}. '|' separates blocks, as in "
                    f"{_EXAMPLES}."
                )
            try:
                blocks.append(Choice(*fields) if len(fields) == 2 else Choice((), fields[0]))
            except InputError as error:
                raise InputError(f"Block {index} of architecture {short(text)}: {error}") from None
        return cls(tuple(blocks))

    def to_json(self) -> str:
        """Returns JSON: `{"blocks": [{"inputs": […], "operations": […]}, …]}`."""
        return json.dumps(
            {"blocks": [{"inputs": b.inputs, "operations": b.operations} for b in self.blocks]}
        )

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Reads an architecture from the JSON of `to_json`.

        Raises:
            InputError: `text` is not that JSON.
        """
        try:
            blocks = json.loads(text)["blocks"]
            pairs = [(block["inputs"], block["operations"]) for block in blocks]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                "The JSON of an architecture must look like "
                '{"blocks": [{"inputs": ["prev1"], "operations": ["sep3x3"]}, ...]}; '
                f"reading it failed ({type(error).__name__}: {error})."
            ) from None
        return cls(tuple(Choice(*pair) for pair in pairs))
