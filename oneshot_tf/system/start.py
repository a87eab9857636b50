"""Settings and checks that come before any other import: TensorFlow's settings, Keras's backend."""

import contextlib
import os
import sys

# Set both before TensorFlow starts. It logs errors only. oneDNN is on: TensorFlow leaves it off on
# CPUs without AVX512-VNNI, where it makes a training step 2.5 times faster.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


_PROGRAM = sys.argv[:1] == ["-m"]  # true while Python looks for the module of "python -m"


def _leave_current_folder() -> None:
    """Removes the current folder, which "python -m" puts first, from the import path.

    The folder may hold run directories and data from other people. Python has already found this
    package, so it is no longer needed.
    """
    with contextlib.suppress(OSError):  # the folder is gone
        if sys.path[:1] == [os.getcwd()]:
            del sys.path[0]


if _PROGRAM:
    _leave_current_folder()


@contextlib.contextmanager
def _quiet():
    """Hides standard error inside the block, and shows it only if the block fails.

    TensorFlow writes lines about oneDNN while it is imported, whatever its log level.
    """
    import tempfile  # imports other modules, so the current folder must be left first

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
    """Returns the error to raise. In a program, it prints the message as one line and exits."""
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
        "oneshot_tf needs TensorFlow, which is not installed. Install the variant for your "
        "hardware: pip install 'oneshot_tf[cpu]', 'oneshot_tf[gpu]' or 'oneshot_tf[tpu]'."
    ) from None

try:
    import keras

    _backend = keras.backend.backend()
except ModuleNotFoundError:  # Keras imports its configured backend
    _backend = "another backend, which is not installed"
if _backend != "tensorflow":
    raise _unusable(
        f"oneshot_tf needs Keras on TensorFlow, but Keras is set to {_backend}. Set the "
        "environment variable KERAS_BACKEND=tensorflow, or change ~/.keras/keras.json."
    )
