"""A space of cells: its table of paths, and masks <-> architectures.

A path is an input of a block or an operation of a block.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from oneshot_tf.space.architecture import Architecture, Choice
from oneshot_tf.space.decisions import Decision, Genes, combinations, subsets
from oneshot_tf.space.own import OwnOperation, own_operations, refuse_own
from oneshot_tf.space.space import Space
from oneshot_tf.space.twins import canonical, num_distinct
from oneshot_tf.system.errors import InputError, short

OPERATIONS = ("identity", "sep3x3", "sep5x5", "sep7x7", "conv1x7_7x1", "max3x3", "avg3x3")
"""The seven operations of section 3.1, in the order of the paths."""

KEEP_CONSTANTS = PARAMETER_FREE = frozenset({"identity", "max3x3", "avg3x3"})
"""Operations without parameters, which keep a constant image constant. Convolutions pad with zeros,
so they do not."""


@dataclasses.dataclass(frozen=True)
class CellSpace(Space):
    """All cells of `num_blocks` choice blocks over a menu of operations.

    Block j takes a non-empty subset of 2 + j inputs (the outputs of the two previous cells and of
    the j blocks before it) and one to `max_operations` operations. Paths are numbered block by
    block, inputs before operations.

    Example:

        >>> space = CellSpace(num_blocks=1)
        >>> space.inputs(0)
        ('prev2', 'prev1')

    Args:
        num_blocks: Choice blocks in a cell (the paper's N_choice), 1 to 8.
        operations: The menu: some of `OPERATIONS`, each once. Or a dict from names to functions for
            operations of your own; None stands for the operation of `OPERATIONS` of that name.
            `make(width)` returns a new Keras layer that maps `[B, H, W, width]` to the same shape.
        max_operations: The most operations that a block can sum, 1 to the size of the menu.

    Raises:
        InputError: A value has a wrong type or is out of its range.
    """

    part: ClassVar[str] = "cell"

    num_blocks: int = 4
    operations: tuple[str, ...] = OPERATIONS
    max_operations: int = 2
    own: tuple[OwnOperation, ...] = dataclasses.field(default=(), init=False)

    def __post_init__(self):
        if isinstance(self.operations, Mapping):
            own = own_operations(self.operations, lambda name: name in OPERATIONS)
            object.__setattr__(self, "own", own)
            object.__setattr__(self, "operations", tuple(self.operations))
        if not isinstance(self.num_blocks, int) or not 1 <= self.num_blocks <= 8:
            raise InputError(
                f"`num_blocks` must be a whole number from 1 to 8; got {self.num_blocks!r}."
            )
        if not isinstance(self.operations, (tuple, list)) or not self.operations:
            raise InputError(
                f"`operations` must be a tuple of one to {len(OPERATIONS)} names; got "
                f"{short(self.operations)}."
            )
        known = {*OPERATIONS, *(operation.name for operation in self.own)}
        for index, name in enumerate(self.operations):
            if name not in known:
                raise InputError(
                    f"`operations` must be among {', '.join(OPERATIONS)}; got {short(name)}."
                )
            if name in self.operations[:index]:
                raise InputError(
                    f"`operations` must hold each name once; got '{name}' twice. Remove one."
                )
        object.__setattr__(self, "operations", tuple(self.operations))
        most = len(self.operations)
        if not isinstance(self.max_operations, int) or not 1 <= self.max_operations <= most:
            raise InputError(
                f"`max_operations` must be a whole number from 1 to {most}, the number of "
                f"operations; got {self.max_operations!r}."
            )

    def inputs(self, block: int) -> tuple[str, ...]:
        """Returns the names of the 2 + `block` tensors that a block can read."""
        return ("prev2", "prev1") + tuple(f"block{i}" for i in range(block))

    def input_paths(self, block: int) -> range:
        """Returns the paths of the inputs of a block."""
        start = sum(2 + j + len(self.operations) for j in range(block))
        return range(start, start + 2 + block)

    def operation_paths(self, block: int) -> range:
        """Returns the paths of the operations of a block."""
        start = self.input_paths(block).stop
        return range(start, start + len(self.operations))

    @property
    def num_paths(self) -> int:
        """P, the number of paths; 42 for the paper's cell."""
        return self.operation_paths(self.num_blocks - 1).stop

    @functools.cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Two for each block: its set of inputs, and its set of operations.

        The paths of a decision meet at one node. Their number is the k of path dropout's rate
        r^(1/k) at this node (section 3.2). Option i of a set of inputs has the bits of i + 1.
        """
        found = []
        for block in range(self.num_blocks):
            inputs, operations = self.input_paths(block), self.operation_paths(block)
            found += [
                subsets(f"inputs of block {block}", inputs),
                combinations(f"operations of block {block}", operations, self.max_operations),
            ]
        return tuple(found)

    def genes(self, architecture: Architecture) -> Genes:
        """Returns the option of each decision that an architecture takes.

        Raises:
            InputError: It is not a member of this space.
        """
        known: list[Any] = [self._known.get(block) for block in enumerate(architecture.blocks)]
        if None in known or len(known) != self.num_blocks:
            self.check(architecture)
            masks = self.masks([architecture])[0]
            genes = tuple(decision.find(masks) for decision in self.decisions)
            known = list(zip(genes[::2], genes[1::2]))
            self._known.update(zip(enumerate(architecture.blocks), known))
        return tuple(itertools.chain(*known))

    def architecture(self, genes: Genes) -> Architecture:
        """Returns the architecture that takes these options. It is the inverse of `genes`."""
        pairs = zip(genes[::2], genes[1::2], strict=True)
        return Architecture(tuple(self._choice(b, *options) for b, options in enumerate(pairs)))

    @functools.cached_property
    def _known(self) -> dict[Any, Any]:
        return {}  # choices by block and options, and options by block and choice: there are few

    @property
    def num_distinct(self) -> int:
        """The exact number of cells if twins count once; see `canonical`."""
        return num_distinct(self.num_blocks, self.decisions[1].num_options)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Returns the form that an architecture shares with its twins, and with no others.

        Twins differ in the order of blocks that do not read each other. They are the same
        stand-alone model, up to the order of channels. In the one-shot model they use different
        weights (`space.twins`).

        Args:
            architecture: A member of the space, or All On.

        Returns:
            The first of its twins, in the order of `Architecture`.

        Raises:
            InputError: The space has no such blocks, inputs or operations.
        """
        self._check_names(architecture)
        return canonical(architecture)

    def _choice(self, block: int, inputs: int, operations: int) -> Choice:
        """Returns the choice of a block that takes two options."""
        key = block, inputs, operations
        if key not in self._known:
            first, second = self.decisions[2 * block : 2 * block + 2]
            self._known[key] = Choice(
                _used(self.inputs(block), first.options[inputs]),
                _used(self.operations, second.options[operations]),
            )
        return self._known[key]

    def all_on(self) -> Architecture:
        """Returns All On, the baseline with every path (table 1).

        It is not a member of the space, because its blocks sum too many operations.
        """
        return Architecture(
            tuple(Choice(self.inputs(b), self.operations) for b in range(self.num_blocks))
        )

    def masks(self, architectures: Iterable[Architecture]) -> np.ndarray:
        """Returns the paths of architectures as float32 `[A, P]`: 1 is used, 0 is not.

        It takes All On too, so it does not check `max_operations`.

        Raises:
            InputError: The space has no such blocks, inputs or operations.
        """
        rows: list[np.ndarray] = []
        place: dict[tuple[int, Choice], int] = {}  # the row of each choice: there are few
        places: list[int] = []
        for architecture in architectures:
            # All choices can be known even if the number of blocks is wrong.
            if len(architecture.blocks) != self.num_blocks:
                self._check_names(architecture)
            for block in enumerate(architecture.blocks):
                at = place.get(block)
                if at is None:
                    self._check_names(architecture)
                    at = place[block] = len(rows)
                    rows.append(self._row(*block))
                places.append(at)
        if not rows:
            return np.zeros((0, self.num_paths), np.float32)
        index, table = np.reshape(places, [-1, self.num_blocks]), np.stack(rows)
        masks = table[index[:, 0]]
        for number in range(1, self.num_blocks):
            masks += table[index[:, number]]
        return masks

    def _row(self, block: int, choice: Choice) -> np.ndarray:
        """Returns the paths of one block as float32 `[P]`."""
        row = np.zeros(self.num_paths, np.float32)
        row[[self.input_paths(block)[self.inputs(block).index(n)] for n in choice.inputs]] = 1.0
        paths = self.operation_paths(block)
        row[[paths[self.operations.index(name)] for name in choice.operations]] = 1.0
        return row

    def architectures(self, masks: np.ndarray) -> list[Architecture]:
        """Returns the architectures of binary masks `[A, P]`. It is the inverse of `masks`.

        Raises:
            InputError: The masks have another shape, are not binary, or leave a node without paths.
        """
        masks = self._check_masks(masks)
        blocks = range(self.num_blocks)
        paths = [(list(self.input_paths(b)), list(self.operation_paths(b))) for b in blocks]
        return [
            Architecture(
                tuple(
                    Choice(_used(self.inputs(b), row[first]), _used(self.operations, row[second]))
                    for b, (first, second) in enumerate(paths)
                )
            )
            for row in masks
        ]

    def check(self, architecture: Architecture) -> None:
        """Checks that an architecture is a member of this space.

        Raises:
            InputError: It is not a member. The message says why.
        """
        self._check_names(architecture)
        for block, choice in enumerate(architecture.blocks):
            if len(choice.operations) > self.max_operations:
                raise InputError(
                    f"A block of this space must have 1 to {self.max_operations} operations; got "
                    f"{len(choice.operations)} operations in block {block} of '{architecture}'."
                )

    def _check_names(self, architecture: Architecture) -> None:
        if len(architecture.blocks) != self.num_blocks:
            raise InputError(
                f"A cell of this space must have {self.num_blocks} block(s); got "
                f"{len(architecture.blocks)} in '{architecture}'."
            )
        for block, choice in enumerate(architecture.blocks):
            if not choice.inputs:
                raise InputError(
                    f"Block {block} of a cell must be 'inputs:operations', as in 'prev1:sep3x3'; "
                    f"got '{choice}' in '{architecture}'."
                )
            for kind, names, menu in (
                ("inputs", choice.inputs, self.inputs(block)),
                ("operations", choice.operations, self.operations),
            ):
                for name in names:
                    if name not in menu:
                        raise InputError(
                            f"The {kind} of block {block} must be among {', '.join(menu)} in this "
                            f"space; got '{name}' in '{architecture}'."
                        )

    def parameter_free(self, architecture: Architecture) -> float:
        """Returns the share of the operations of an architecture that have no parameters."""
        names = [name for block in architecture.blocks for name in block.operations]
        return sum(name in PARAMETER_FREE for name in names) / len(names)

    def to_dict(self) -> dict:
        """Returns plain values. `from_dict` makes the space again from them."""
        values = {
            "num_blocks": self.num_blocks,
            "operations": list(self.operations),
            "max_operations": self.max_operations,
        }
        return {**values, "own": [o.name for o in self.own]} if self.own else values

    @classmethod
    def from_dict(cls, values: dict) -> "CellSpace":
        """Returns the space that `to_dict` describes.

        Raises:
            InputError: `values` has other names, or a value is wrong.
        """
        names = {field.name for field in dataclasses.fields(cls) if field.init}
        if isinstance(values, dict):
            refuse_own(set(values.get("own", ())))
        if not isinstance(values, dict) or set(values) != names:
            raise InputError(
                f"A search space must have {', '.join(sorted(names))}; got {short(values)}."
            )
        return cls(**values)


def _used(names: tuple[str, ...], used: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, kept in zip(names, used) if kept)


def bender2018(num_blocks: int = 4) -> CellSpace:
    """Returns the search space of Bender et al. 2018, section 3.1.

    Example:

        >>> space = bender2018(num_blocks=4)
        >>> space.num_paths, space.num_architectures
        (42, 6002115840)

    Args:
        num_blocks: Choice blocks in a cell. The paper has 4 (42 paths, 6,002,115,840 cells). Fewer
            blocks make a smaller space of the same kind.
    """
    return CellSpace(num_blocks=num_blocks)
