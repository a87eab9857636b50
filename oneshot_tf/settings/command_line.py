"""Command lines: settings become flags, flag files are found, errors become one line.

The only file that knows absl. A program ends with `command_line.run(main, groups…)`.
"""

import dataclasses
import os
import pathlib
import re
import shlex
import sys

from absl import flags

from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import read_text
from oneshot_tf.system.interrupts import Interrupted, listen
from oneshot_tf.system.output import printing
from oneshot_tf.system.printable import printable

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# As installed, and as in a checkout.
FLAG_FILE_FOLDERS = (_PACKAGE / "flags", _PACKAGE.parent / "flags")
_MOST_FLAGS = 2**20  # bytes of a flag file

_DEFINE = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def run(main, *groups, positional=(), files=False) -> None:
    """Runs a program and exits.

    Exit codes: 0 done; 1 what was given can't be used; 2 the command line can't be
    read; 130 ended by Ctrl-C, 143 by SIGTERM (what was done is kept); 141 the reader of the
    output is gone (only of programs without a run directory; the others go on).

    Args:
        main: takes one settings object for each of `groups`.
        groups: settings classes, or objects whose values are the defaults.
        positional: names of settings that may be given without their names, in this order.
        files: whether everything else is a list of files, `main`'s last argument.
    """
    program = f"python -m oneshot_tf.{pathlib.Path(sys.argv[0]).stem}"
    with printing(program) as output:
        try:
            doc = sys.modules["__main__"].__doc__
            settings = parse(sys.argv, groups, program, doc, positional, files)
        except InputError as error:
            _fail(program, f"{error} See {program} --help.", 2)
        listen()
        output.keep_going = not files  # a program with a run directory has work to finish
        _run(program, main, settings)


def _run(program, main, settings):
    """Calls `main`; errors that are the user's to mend become one line and an exit code."""
    try:
        main(*settings)
    except InputError as error:
        _fail(program, str(error), 1)
    except Interrupted as interrupt:
        again = f"What was done is kept; to go on, the same command: {shlex.join(sys.orig_argv)}"
        _fail(program, f"{interrupt}. {again}", 128 + interrupt.number)
    except Exception as error:
        # By name: TensorFlow's error, of which this file needn't know.
        if type(error).__name__ not in ("MemoryError", "ResourceExhaustedError"):
            raise
        _fail(
            program,
            "There is not enough memory; give smaller --filters, --image_size or "
            "--device_batch_size.",
            1,
        )


def _fail(program, message, code):
    print(f"{program}: error: {printable(message)}", file=sys.stderr, flush=True)
    sys.exit(code)


def parse(argv, groups, program="", doc="", positional=(), files=False) -> list:
    """Settings objects from a command line; with `files` last what is no flag.

    Raises:
        InputError: an unknown flag, a value out of range, a flag file that is not there.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may come after what is none
    for group in groups:
        for field in dataclasses.fields(group):
            default = getattr(group, field.name, field.default)
            _DEFINE[field.type](field.name, default, field.metadata["help"], flag_values=values)
    if any(arg.lstrip("-") in ("help", "helpshort", "helpfull", "h") for arg in argv[1:]):
        print(_help(groups, program, doc or ""))
        sys.exit(0)
    try:
        rest = values([argv[0]] + expand_flag_files(argv[1:]))
    except (flags.Error, ValueError) as error:  # absl raises both
        raise InputError(_flag_error(str(error), groups)) from None
    if len(rest) > 1 + len(positional) and not files:
        extra = rest[1 + len(positional)]
        raise InputError(f"'{extra}' is not a flag; flags are written --name=value.")
    for name, value in zip(positional, rest[1:]):
        values[name].value = value
    _check_locale(values)
    chosen = []
    for group in groups:
        kind = group if isinstance(group, type) else type(group)
        names = [field.name for field in dataclasses.fields(group)]
        chosen.append(kind(**{name: values[name].value for name in names}))
    return [*chosen, rest[1:]] if files else chosen


def _flag_error(message, groups) -> str:
    """What absl says of a flag, in words that name the kind of value."""
    kinds = {field.name: field.type for group in groups for field in dataclasses.fields(group)}
    match = re.match(r"flag --(?:no)?(\w+)=(.*?): ", message, re.DOTALL)
    if match is None or match[1] not in kinds:
        return message.rstrip(".") + "."
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return f"--{match[1]} must be {words[kinds[match[1]]]}; got {short(match[2])}."


def _check_locale(values) -> None:
    """Raises InputError for a text that file names cannot hold in this locale."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    for name in values:
        text = values[name].value
        try:
            (text if isinstance(text, str) else "").encode(encoding)
        except UnicodeEncodeError:
            raise InputError(
                f"--{name} has characters that this locale's encoding ({encoding}) lacks: "
                f"{ascii(text)[:80]}. Set the environment variable PYTHONUTF8=1."
            ) from None


def expand_flag_files(args, inside=()) -> list[str]:
    """Replaces each `--flagfile=NAME` by the flags in that file.

    A file that is not found where the including file lies, or in the current
    folder, is looked for among the flag files that come with the package.
    """
    expanded = []
    args = iter(args)
    for arg in args:
        name, equals, value = arg.lstrip("-").partition("=")
        if name != "flagfile" or not arg.startswith("-"):
            expanded.append(arg)
            continue
        value = value if equals else next(args, "")
        path = _find_flag_file(value, inside)
        if path in inside:
            raise InputError(f"--flagfile={value}: {path} includes itself.")
        try:
            text = read_text(path, _MOST_FLAGS).removeprefix("\ufeff")
        except InputError as error:
            raise InputError(f"--flagfile={value}: {error}") from None
        lines = [line.strip() for line in text.splitlines()]
        for number, line in enumerate(lines, start=1):
            if line and not line.startswith(("#", "//")):
                if not line.startswith("-"):
                    raise InputError(
                        f"{path}, line {number}: '{line[:60]}' is not of the form --name=value."
                    )
                expanded += expand_flag_files([line], (*inside, path))
    return expanded


def _find_flag_file(value, inside):
    places = [path.parent for path in inside[-1:]] + [pathlib.Path.cwd(), *FLAG_FILE_FOLDERS]
    for place in places:
        path = place / os.path.expanduser(value)
        if value and path.is_file():
            return path.resolve()
    known = sorted({p.name for folder in FLAG_FILE_FOLDERS for p in folder.glob("*.flags")})
    raise InputError(
        f"--flagfile={value}: there is no such file here, nor among those of the package: "
        f"{', '.join(known)}."
    )


def _help(groups, program, doc) -> str:
    lines = [doc.strip(), "", f"Usage: {program} [--flagfile=NAME.flags] [--name=value ...]"]
    for group in groups:
        kind = group if isinstance(group, type) else type(group)
        lines += ["", (kind.__doc__ or "").strip().splitlines()[0]]
        for field in dataclasses.fields(group):
            default = getattr(group, field.name, field.default)
            sign = "[no]" if field.type is bool else ""
            lines += [f"  --{sign}{field.name}: {field.metadata['help']} (default: {default!r})"]
    return "\n".join(lines)


def as_flag_lines(groups) -> list[str]:
    """Lines of a flag file that say what settings objects hold."""
    lines = []
    for group in groups:
        for name, value in group.to_dict().items():
            if isinstance(value, bool):
                lines.append(f"--{'' if value else 'no'}{name}")
            else:
                lines.append(f"--{name}={value}")
    return lines
