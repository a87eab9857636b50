"""Programs print what the terminal lacks, and outlive whoever reads them."""

import csv
import io
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

import oneshot_tf
from oneshot_tf.analysis.page import Page
from oneshot_tf.system import progress
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.output import Output
from oneshot_tf.system.printable import command, csv_text, printable

DRAW = [sys.executable, "-m", "oneshot_tf.draw", "prev1:sep3x3"]


def first_line_only(files):
    """What a program of many lines says and returns when its reader leaves after the first."""
    code = (
        "import sys; sys.argv = ['-m']; from oneshot_tf.settings import command_line\n"
        "sys.argv = ['program.py']\n"
        "def main(*files):\n"
        "    for i in range(20000): print('line', i, flush=True)\n"
        "    print('end', file=sys.stderr)\n"
        f"command_line.run(main, files={files})"
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
    assert "standard output cannot be written (Broken pipe). The program continues" in errors
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
    assert capsys.readouterr().err.count("continues without printing") == 1


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


# A title of the window, a cleared screen, reading from right to left, a line of its own.
HOSTILE = "\x1b]0;pwn\x07\x1b[2J\u202egnp\u2028\x9b\ud800"


def test_hidden_characters_are_escaped():
    shown = r"\x1b]0;pwn\x07\x1b[2J\u202egnp\u2028\x9b\ud800"
    assert printable(HOSTILE) == shown and printable(f"a\n{HOSTILE}") == rf"a\n{shown}"
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw)
    print(f"a\t{HOSTILE}\nb", file=Output(stream, "program"), flush=True)
    assert raw.getvalue().decode() == f"a\t{shown}\nb\n"


def test_words_of_all_languages_stay():
    for text in ("caf\u00e9", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
                 "\u6f22\u3000\u5b57", "\U0001f468\u200d\U0001f469", "10\u00a0%",
                 "a  b\\n"):  # fmt: skip
        assert printable(text) == text


def test_commands_can_be_pasted():
    words = ["--run_dir=a b;rm -rf ~", "it's.jpg", "$(x)"]
    assert shlex.split(command("search", *words)) == ["python", "-m", "oneshot_tf.search", *words]
    assert command("train", "--run_dir=runs/1") == "python -m oneshot_tf.train --run_dir=runs/1"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "=cmd|' /C calc'!A0", "+1+cmd|x", "-1+cmd|x", "@SUM(1)", "\t=1", "\r=1", "--run_dir=x",
     "-1 (=x to 1)", "+", "-\u0661"],
)  # fmt: skip
def test_no_cell_becomes_a_formula(text):
    cell = next(csv.reader(io.StringIO(csv_text([["a", text]]))))[1]
    assert cell[0] not in "=+-@\t\r" and cell.removeprefix("'") == printable(text)


@pytest.mark.parametrize(
    "text",
    ["-", "-0.5", "+1e-3", "1,234", "-0.123 (-0.500 to 0.250)", "0.9 (0.8 to 1.0)", "-.5", "",
     "prev1:sep3x3 | block0+prev2:max3x3"],
)  # fmt: skip
def test_numbers_and_architectures_stay_as_they_are(text):
    assert csv_text([[text]]).strip('\n"') == text


def test_a_page_shows_what_is_hidden(tmp_path):
    page = Page()
    page.head(HOSTILE, HOSTILE)
    page.code(HOSTILE)
    page.missing(HOSTILE, HOSTILE)
    page.table("table", [HOSTILE], [["=1"], [HOSTILE]], HOSTILE)
    page.write(tmp_path, HOSTILE, [HOSTILE])
    for path in (tmp_path / "report.html", tmp_path / "table.csv"):
        assert not set(HOSTILE) & set("\x1b\x07\u202e\u2028\x9b") & set(path.read_text())
    assert "'=1" in (tmp_path / "table.csv").read_text()


# ---------------------------------------------------------------------------- whole programs


# Without what the package's own file imports, which takes seconds.
LIGHT = f"""
import sys, types
package = types.ModuleType("oneshot_tf")
package.__path__ = [{str(pathlib.Path(oneshot_tf.__file__).parent)!r}]
sys.modules["oneshot_tf"] = package
from oneshot_tf.settings import command_line
from oneshot_tf.system import errors
def main():
    for _ in range(3): print("printed")
    print("printed", flush=True)
    open("done", "w").close()
    if sys.argv[1:]: raise errors.InputError("What\x1b[2J\\n.")
command_line.run(main, files=False)
"""


def in_a_shell(folder, redirections, fail=False, **env):
    """Exit code, standard output and standard error of a program that a shell starts."""
    (folder / "program.py").write_text(LIGHT.replace("sys.argv[1:]", str(fail)))
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join([sys.executable, 'program.py'])} {redirections}"], cwd=folder,
        env={**os.environ, **env}, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and (folder / "done").exists()
    (folder / "done").unlink()
    return done.returncode, done.stdout, done.stderr


def test_standard_output_that_takes_nothing(tmp_path):
    code, _, errors = in_a_shell(tmp_path, "> /dev/full")
    assert code == 0 and len(errors.splitlines()) == 1
    assert "standard output cannot be written (No space left on device). The program" in errors
    assert in_a_shell(tmp_path, ">&-") == (0, "", "")
    assert in_a_shell(tmp_path, "<&- >&- 2>&-") == (0, "", "")


def test_standard_error_that_takes_nothing(tmp_path):
    for redirections in ("2> /dev/full", "2>&-", "> /dev/full 2> /dev/full"):
        code, _, errors = in_a_shell(tmp_path, redirections, fail=True)
        assert (code, errors) == (1, "")


def test_an_error_is_one_line(tmp_path):
    code, _, errors = in_a_shell(tmp_path, "", fail=True)
    assert code == 1 and errors == r"python -m oneshot_tf.program: error: What\x1b[2J\n." + "\n"


def test_only_slow_work_prints_progress(capsys, monkeypatch):
    assert list(progress.each("abc", "Reading", 3, "files")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    assert list(progress.each("abc", "Reading", 3, "files")) == ["a", "b", "c"]
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Reading: 1/3 files") and last.startswith("Reading: 3/3 files")
