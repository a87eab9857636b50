"""What must hold before anything else is imported: TensorFlow's settings, Keras's backend."""

import contextlib
import os
import sys

# Before TensorFlow starts. Errors only. oneDNN's kernels: TensorFlow leaves them off on CPUs
# without AVX512-VNNI, where they make a training step 2.5 times faster.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


_PROGRAM = sys.argv[:1] == ["-m"]  # while Python looks for the module of "python -m"


def _leave_current_folder() -> None:
    """Takes the current folder, which "python -m" puts first, from where Python imports from.

    It may hold run directories and data of somebody else. This package has been found by now.
    """
    with contextlib.suppress(OSError):  # the folder is gone
        if sys.path[:1] == [os.getcwd()]:
            del sys.path[0]


if _PROGRAM:
    _leave_current_folder()


@contextlib.contextmanager
def _quiet():
    """Keeps standard error from the terminal inside the block, unless the block fails.

    TensorFlow writes lines on oneDNN while it is imported, whatever its log level.
    """
    import tempfile  # it imports more, so not before the current folder is left

    with tempfile.TemporaryFile() as kept:
        terminal = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _unusable(message: str) -> ImportError:
    """The error to raise; a program prints it as one line instead, and ends."""
    if _PROGRAM:
        print(f"oneshot_tf: error: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
    return ImportError(message)


try:
    with _quiet() if _PROGRAM and sys.stderr else contextlib.nullcontext():
        import tensorflow  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise _unusable(
        "oneshot_tf needs TensorFlow, which comes in kinds: install one with "
        "pip install 'oneshot_tf[cpu]', 'oneshot_tf[gpu]' or 'oneshot_tf[tpu]'."
    ) from None

try:
    import keras

    _backend = keras.backend.backend()
except ModuleNotFoundError:  # Keras imports the backend it is set to
    _backend = "another backend, which is not installed"
if _backend != "tensorflow":
    raise _unusable(
        f"oneshot_tf needs Keras on TensorFlow, but Keras is set to {_backend}: set the "
        "environment variable KERAS_BACKEND=tensorflow, or change ~/.keras/keras.json."
    )
