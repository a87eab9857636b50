"""Work that copies of a program do together, one piece at a time.

The caller says which pieces there are and how to do one of them. All copies must name the same
pieces. The result of a piece is a file with a name of its own, written atomically, that is the same
whoever writes it. So it does no harm if two copies ever do the same piece.
"""

import time
from collections.abc import Callable, Sequence

from oneshot_tf.system.claims import Claim, Claims
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.progress import Progress

_SAY_SECONDS = 10.0  # between two lines that say what this copy waits for
_LOOK_SECONDS = 1.0  # between two looks for work


def do_together(
    claims: Claims,
    names: Sequence[str],
    do: Callable[[Claim], None],
    is_done: Callable[[str], bool],
    is_over: Callable[[], bool],
    progress: Progress,
) -> None:
    """Does pieces of work together with other copies, until all pieces are done.

    If no piece is free, it waits: until the other copies are done, or until a claim expires, whose
    piece it then takes over.

    Args:
        claims: The claims on the pieces.
        names: The names of all pieces.
        do: Does the piece `claim.name`. It may raise `ClaimLost`.
        is_done: Returns whether the result of a piece is there.
        is_over: Returns whether another copy has put all results together.
        progress: Counts the pieces that are done.

    Raises:
        InputError: `do` raised it while this copy held the claim.
    """
    said = time.monotonic()
    while not is_over():
        left = [name for name in names if not is_done(name)]
        if len(names) - len(left) != progress.done or not left:
            progress.update(len(names) - len(left))
        if not left:
            return
        claim = claims.take(left)
        if claim is not None:
            with claim:
                _do(claim, do, is_done, is_over)
            said = time.monotonic()
            continue
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            print(
                f"{progress.title}: {len(names) - len(left):,}/{len(names):,} {progress.unit} are "
                f"done. Waiting for other copies ({claims.holders(left)}).",
                flush=True,
            )
        time.sleep(min(_LOOK_SECONDS, claims.seconds / 4))


def _do(
    claim: Claim,
    do: Callable[[Claim], None],
    is_done: Callable[[str], bool],
    is_over: Callable[[], bool],
) -> None:
    # The copy that held the claim before may have finished after this one had looked.
    if is_over() or is_done(claim.name):
        return
    try:
        do(claim)
    except InputError as error:  # ClaimLost is one, and a lost claim may cause others
        if not claim.lost():
            raise
        print(f"{error} This copy goes on with other work.", flush=True)
