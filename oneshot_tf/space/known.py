"""The search spaces that `--space` names."""

from collections.abc import Callable

from oneshot_tf.space.cell_space import bender2018
from oneshot_tf.space.chain_space import digits_chain, mobile_chain
from oneshot_tf.space.space import Space

SPACES: dict[str, Callable[[], Space]] = {
    "bender2018": bender2018,
    "digits_chain": digits_chain,
    "mobile_chain": mobile_chain,
}
"""The spaces by name."""
