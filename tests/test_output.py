"""Programs print what the terminal lacks, and outlive whoever reads them."""

import io
import os
import subprocess
import sys

import pytest

from oneshot_tf.errors import InputError
from oneshot_tf.output import Output

DRAW = [sys.executable, "-m", "oneshot_tf.draw", "prev1:sep3x3"]


def first_line_only(files):
    """What a program of many lines says and returns when its reader leaves after the first."""
    code = (
        "import sys; sys.argv = ['-m']; from oneshot_tf import config\n"
        "sys.argv = ['program.py']\n"
        "def main(*files):\n"
        "    for i in range(20000): print('line', i, flush=True)\n"
        "    print('end', file=sys.stderr)\n"
        f"config.run(main, files={files})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    return line, errors, process.returncode


def test_work_goes_on_when_the_reader_is_gone():
    line, errors, code = first_line_only(files=False)
    assert (line, code) == ("line 0\n", 0)
    assert "standard output cannot be written (Broken pipe); the program goes on" in errors
    assert errors.endswith("\nend\n") and len(errors.splitlines()) == 2


def test_a_program_that_only_prints_ends_quietly():
    assert first_line_only(files=True) == ("line 0\n", "", 141)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_characters_that_the_encoding_lacks_are_escaped(encoding):
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, encoding=encoding), "program")
    print("caf\u00e9 \u2026 \u6f22", file=output, flush=True)
    expected = {"ascii": b"caf\\xe9 \\u2026 \\u6f22\n", "iso-8859-1": b"caf\xe9 \\u2026 \\u6f22\n"}
    assert raw.getvalue() == expected.get(encoding, "caf\u00e9 \u2026 \u6f22\n".encode())


class Full(io.StringIO):
    def flush(self):
        raise OSError(28, "No space left on device")


def test_output_on_a_full_disk(capsys):
    output = Output(Full(), "program")
    with pytest.raises(InputError, match="Standard output cannot be written: No space left"):
        print("a", file=output, flush=True)
    output = Output(Full(), "program")
    output.keep_going = True
    for _ in range(3):
        print("a", file=output, flush=True)
    assert capsys.readouterr().err.count("goes on without printing") == 1


def test_a_program_in_a_locale_without_utf_8(tmp_path):
    text = "# Gr\u00f6\u00dfe\n--file=caf\u00e9.svg\n"
    (tmp_path / "utf8.flags").write_text(text, encoding="utf-8")
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*DRAW, "--flagfile=utf8.flags"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Set the environment variable PYTHONUTF8=1" in done.stderr
    assert "Traceback" not in done.stderr
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*DRAW, "--flagfile=utf8.flags"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and "caf\\xe9.svg" in done.stdout


def test_keras_on_another_backend_is_one_line(tmp_path):
    done = subprocess.run(
        DRAW, cwd=tmp_path, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "KERAS_BACKEND=tensorflow" in done.stderr
