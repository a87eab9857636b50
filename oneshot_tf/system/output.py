"""Safe standard output for the programs.

It escapes characters that a terminal cannot show or would obey, and it handles a reader that has
gone, for example a closed pipe. It knows nothing else about the text that is printed.
"""

import contextlib
import os
import sys
from typing import Any

from oneshot_tf.system.errors import InputError
from oneshot_tf.system.printable import printable

_SIGPIPE_EXIT = 141  # the exit code that a shell reports for a program ended by a broken pipe


class Output:
    """Text stream that prints any character and can outlive its reader.

    It escapes characters that the stream's encoding lacks, and characters that a terminal would
    obey. When the stream can no longer be written, `keep_going` decides what happens.

    Args:
        stream: The stream to write to. None if the process started with the stream closed.
        program: Name of the program, for messages on standard error.
        is_errors: Whether the stream is standard error. If so, text that cannot be written is
            dropped, and nothing is escaped, because libraries draw progress bars there.

    Attributes:
        keep_going: Decides what happens when the stream can no longer be written. If True, one
            message goes to standard error, and all later output is dropped. If False, the program
            ends, silently if its reader has gone.
    """

    def __init__(self, stream: Any, program: str, is_errors: bool = False):
        if stream is None:  # callers ask a stream for its encoding and other attributes
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._stream, self._program, self._is_errors = stream, program, is_errors
        self.keep_going, self._gone = is_errors, False
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text and returns its length."""
        shown = text if self._is_errors else printable(text, keep="\n\t")
        with self._surviving():
            if not self._gone:
                self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
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
                    f"{self._program}: standard output cannot be written ({reason}). The program "
                    "continues without printing.",
                    file=sys.stderr,
                    flush=True,
                )

    def _drop(self):
        """Drops all output from now on, and the output that is still buffered."""
        self._gone = True
        with contextlib.suppress(OSError, ValueError):  # the stream is not a file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def printing(program: str):
    """Replaces standard output and standard error by an `Output` inside the block.

    It yields the `Output` of standard output.

    Args:
        program: Name of the program, for messages on standard error.
    """
    for descriptor in range(3):  # otherwise a file could get the number of a closed stream
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    output, errors = Output(sys.stdout, program), Output(sys.stderr, program, is_errors=True)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        yield output
