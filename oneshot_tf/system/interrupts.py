"""Ctrl-C and SIGTERM: what must not be cut in two is finished first; what hears neither is ended.

Knows nothing of what is interrupted.
"""

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Args:
        number: of the signal.
        where: what to add to the message: how far the work got.
    """

    def __init__(self, number: int = signal.SIGINT, where: str = ""):
        what = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {what}{where}")
        self.number = number


def listen() -> None:
    """Makes SIGTERM end a program in the way of Ctrl-C: by an exception."""

    def interrupt(number: int, frame: Any):
        del frame
        raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def uninterrupted():
    """Puts an interruption off to the end of the block; a second one comes through at once.

    Raises:
        Interrupted: at the end of the block.
    """
    asked: list[Any]
    asked, before = [], {}

    def hold(number: int, frame: Any):
        del frame
        if asked:
            raise Interrupted(number)
        asked.append(number)

    with contextlib.suppress(ValueError):  # not the main thread: signals are its business
        for number in _SIGNALS:
            before[number] = signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if asked:
        raise Interrupted(asked[0])


# A process of its own: the one that waits may not even let other threads run.
_WATCH = """
import os, signal, sys, time
parent, seconds, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
end = time.monotonic() + seconds
while time.monotonic() < end:
    if os.getppid() != parent:
        sys.exit()
    time.sleep(0.2)
print("error: " + message, file=sys.stderr, flush=True)
if os.getppid() == parent:
    os.kill(parent, signal.SIGKILL)  # TensorFlow takes SIGTERM for a notice
"""


@contextlib.contextmanager
def ending_after(seconds: float, message: str):
    """Around a call that hears no signal and may never return.

    Signals end the program at once, and so does the time, with `message`. Only for what is
    called before anything is written.
    """
    # Isolated (-I): it needs nothing of the current folder, nor of the environment.
    command = [sys.executable, "-I", "-c", _WATCH, str(os.getpid()), str(seconds), message]
    watch, before = subprocess.Popen(command), {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in _SIGNALS:
                before[number] = signal.signal(number, signal.SIG_DFL)
        yield
    finally:
        watch.kill()
        watch.wait()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
