"""Handling of Ctrl-C and SIGTERM.

Work that must not be cut in two is finished first. A call that hears no signal is ended after a
time limit. This module knows nothing about the work that is interrupted.
"""

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Exception for Ctrl-C or SIGTERM.

    Args:
        number: Number of the signal.
        where: Text to append to the message, for example how far the work got.
        resumes: Whether the same command continues the work.
    """

    def __init__(self, number: int = signal.SIGINT, where: str = "", resumes: bool = True):
        what = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {what}{where}")
        self.number, self.resumes = number, resumes


def listen() -> None:
    """Makes SIGTERM raise an exception, as Ctrl-C does."""

    def interrupt(number: int, frame: Any):
        del frame
        raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def uninterrupted():
    """Delays an interruption to the end of the block. A second one takes effect at once.

    Raises:
        Interrupted: A signal arrived during the block. Raised at its end.
    """
    asked: list[Any]
    asked, before = [], {}

    def hold(number: int, frame: Any):
        del frame
        if asked:
            raise Interrupted(number)
        asked.append(number)

    with contextlib.suppress(ValueError):  # only the main thread may handle signals
        for number in _SIGNALS:
            before[number] = signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if asked:
        raise Interrupted(asked[0])


# The watch is a process of its own, because the waiting process may block all of its threads.
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
    os.kill(parent, signal.SIGKILL)  # TensorFlow takes SIGTERM as a preemption notice
"""


@contextlib.contextmanager
def ending_after(seconds: float, message: str):
    """Limits the time of a call that hears no signal and may never return.

    Inside the block, signals end the program at once. When the time is over, the program prints
    `message` and ends. Use it only before the program has written anything.

    Args:
        seconds: Time limit of the block.
        message: Error message to print when the time is over.
    """
    # Isolated (-I): the watch imports nothing from the current folder or the environment.
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
