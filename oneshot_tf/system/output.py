"""Standard output of a program: what a terminal cannot show, and a reader that is gone.

And of what is printed, characters that a terminal would obey. Knows nothing else of it.
"""

import contextlib
import os
import sys
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import printable

_SIGPIPE_EXIT = 141  # as a shell reports a program that ended because its reader had


class Output:
    """A text stream that prints any character and outlives its reader.

    Characters that the stream's encoding lacks are printed as escapes, and so are those that
    a terminal would obey. When the stream cannot be written any more, what happens depends on
    `keep_going`.

    Args:
        stream: the stream to write to; None where there is none (closed at the start).
        program: name for messages on standard error.
        is_errors: whether it is standard error. Then what cannot be written is dropped, and
            nothing is escaped: libraries draw progress bars there.

    Attributes:
        keep_going: True: say so once on standard error, and drop what is printed from then
            on. False: end the program, silently if its reader is gone.
    """

    def __init__(self, stream: Any, program: str, is_errors: bool = False):
        if stream is None:  # there must be one to ask for its encoding, and the like
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._stream, self._program, self._is_errors = stream, program, is_errors
        self.keep_going, self._gone = is_errors, False
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        shown = text if self._is_errors else printable(text, keep="\n\t")
        with self._surviving():
            if not self._gone:
                self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Brings what was written to the reader."""
        with self._surviving():
            if not self._gone:
                self._stream.flush()

    @contextlib.contextmanager
    def _surviving(self):
        try:
            yield
        except OSError as error:
            self._drop()
            reason = error.strerror or str(error)
            if not self.keep_going and isinstance(error, BrokenPipeError):
                raise SystemExit(_SIGPIPE_EXIT) from None
            if not self.keep_going:
                raise InputError(f"Standard output cannot be written: {reason}.") from None
            if not self._is_errors:
                print(
                    f"{self._program}: standard output cannot be written ({reason}); the program "
                    "continues without printing.",
                    file=sys.stderr,
                    flush=True,
                )

    def _drop(self):
        """Drops what is printed from now on, and what is still buffered."""
        self._gone = True
        with contextlib.suppress(OSError, ValueError):  # a stream that is no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def printing(program: str):
    """Makes standard output and standard error an `Output` inside the block; yields the first.

    Args:
        program: name for messages on standard error.
    """
    for descriptor in range(3):  # a file would get the number of one that is closed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    output, errors = Output(sys.stdout, program), Output(sys.stderr, program, is_errors=True)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        yield output
