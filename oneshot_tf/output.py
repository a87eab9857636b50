"""Standard output of a program: what a terminal cannot show, and a reader that is gone.

Knows nothing of what is printed.
"""

import contextlib
import os
import sys

from oneshot_tf.errors import InputError

_SIGPIPE_EXIT = 141  # as a shell reports a program that ended because its reader had


class Output:
    """A text stream that prints any character and outlives its reader.

    Characters that the stream's encoding lacks are printed as escapes. When the stream
    cannot be written any more, what happens depends on `keep_going`.

    Args:
        stream: the stream to write to; None where there is none (closed at the start).
        program: name for messages on standard error.

    Attributes:
        keep_going: True: say so once on standard error, and drop what is printed from then
            on. False: end the program, silently if its reader is gone.
    """

    def __init__(self, stream, program: str):
        self._stream, self._program = stream, program
        self.keep_going, self._gone = False, stream is None
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        with self._surviving():
            if not self._gone:
                self._stream.write(text)
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
            with contextlib.suppress(OSError, AttributeError):
                print(
                    f"{self._program}: standard output cannot be written ({reason}); the program "
                    "goes on without printing.",
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
    """Makes standard output an `Output` inside the block; yields it.

    Args:
        program: name for messages on standard error.
    """
    output = Output(sys.stdout, program)
    with contextlib.redirect_stdout(output):
        yield output
