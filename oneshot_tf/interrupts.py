"""Ctrl-C and SIGTERM: what must not be cut in two is finished first."""

import contextlib
import os
import signal
import sys
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Args:
        number: of the signal.
        where: what to add to the message: how far the work got.
    """

    def __init__(self, number=signal.SIGINT, where=""):
        what = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {what}{where}")
        self.number = number


def listen() -> None:
    """Makes SIGTERM end a program in the way of Ctrl-C: by an exception."""

    def interrupt(number, frame):
        del frame
        raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def held():
    """Puts an interruption off to the end of the block; a second one comes through at once.

    Raises:
        Interrupted: at the end of the block.
    """
    asked, before = [], {}

    def hold(number, frame):
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


@contextlib.contextmanager
def ending_after(seconds, message):
    """Around a call that hears no signal and may never return.

    Signals end the program at once, and so does the time, with `message`. Only for what is
    called before anything is written.
    """

    def end():
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    timer, before = threading.Timer(seconds, end), {}
    timer.daemon = True
    timer.start()
    try:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in _SIGNALS:
                before[number] = signal.signal(number, signal.SIG_DFL)
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
