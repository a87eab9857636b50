"""Command lines: turns settings into flags, finds flag files, and prints errors as one line.

Only this file uses absl. A program ends with `command_line.run(main, groups…)`.
"""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from oneshot_tf.settings.setting import Settings, fields
from oneshot_tf.system.errors import InputError, short
from oneshot_tf.system.files import read_text
from oneshot_tf.system.interrupts import Interrupted, listen
from oneshot_tf.system.output import printing
from oneshot_tf.system.printable import printable

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# The folder in an installed package, and the folder in a checkout.
FLAG_FILE_FOLDERS = (_PACKAGE / "flags", _PACKAGE.parent / "flags")
_MOST_FLAGS = 2**20  # bytes in a flag file
_NARROWEST, _WIDEST = 60, 100  # columns of --help

_DEFINE: dict[Any, Callable] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A group of flags that depends on the value of another flag.

    Args:
        flag: The flag that chooses, for example "strategy". Each class has it as a field.
        classes: The class of settings for each value of the flag.
        default: The value of the flag if it is not given.
    """

    flag: str
    classes: Mapping[str, type[Settings]]
    default: str

    def chosen(self, args: Sequence[str]) -> type[Settings]:
        """Returns the class that the arguments choose.

        Raises:
            InputError: The value is unknown, or an argument is a flag of a class that is not
                chosen.
        """
        value = self.default
        for arg, after in zip(args, [*args[1:], ""]):
            name, equals, given = arg.lstrip("-").partition("=")
            if arg.startswith("-") and name == self.flag:
                value = given if equals else after
        if value not in self.classes:
            raise InputError(
                f"--{self.flag} must be one of {', '.join(self.classes)}; got {short(value)}."
            )
        chosen = self.classes[value]
        known = {field.name for field in fields(chosen)}
        for other, kind in self.classes.items():
            foreign = {field.name for field in fields(kind)} - known
            for arg in args:
                name = arg.lstrip("-").partition("=")[0]
                if arg.startswith("-") and {name, name.removeprefix("no")} & foreign:
                    raise InputError(
                        f"--{name} is a setting of --{self.flag}={other}. It does not apply to "
                        f"--{self.flag}={value}; leave it out."
                    )
        return chosen


def strategy(entries: Mapping[str, Any], default: str) -> OneOf:
    """Returns the flags of `--strategy`.

    Args:
        entries: Strategies by name. Their `settings` are the classes.
        default: The name of the strategy if the flag is not given.
    """
    return OneOf("strategy", {name: entry.settings for name, entry in entries.items()}, default)


Group = Settings | type[Settings] | OneOf


def run(
    main: Callable[..., None],
    *groups: Group,
    positional: Sequence[str] = (),
    files: bool = False,
) -> None:
    """Runs a program and exits.

    The exit code is 0 when the program is done, 1 when an input cannot be used, and 2 when the
    command line cannot be read. It is 130 after Ctrl-C and 143 after SIGTERM; finished work is
    kept. It is 141 when the reader of the output is gone. Only programs without a run directory
    end then; the others continue.

    Args:
        main: Takes one settings object for each of `groups`.
        groups: Classes of settings, objects whose values are the defaults, or `OneOf`.
        positional: Names of settings that may be given without their names, in this order.
        files: Whether all other arguments are files. `main` takes their list as its last argument.
    """
    program = f"python -m oneshot_tf.{pathlib.Path(sys.argv[0]).stem}"
    with printing(program) as output:
        try:
            doc = sys.modules["__main__"].__doc__ or ""
            settings = parse(sys.argv, groups, program, doc, positional, files)
        except InputError as error:
            _fail(program, f"{error} See {program} --help.", 2)
        listen()
        output.keep_going = not files  # a program with a run directory has work to finish
        _run(program, main, settings)


def _run(program: str, main: Callable[..., None], settings: list) -> None:
    """Calls `main`. Turns errors that the user can mend into one line and an exit code."""
    try:
        main(*settings)
    except InputError as error:
        _fail(program, str(error), 1)
    except Interrupted as interrupt:
        again = (
            f" Finished work is kept. To resume, repeat the command: {shlex.join(sys.orig_argv)}"
        )
        said = f"{interrupt}.{again if interrupt.resumes else ''}"
        _fail(program, said, 128 + interrupt.number)
    except Exception as error:
        # Compares names, because this file does not import TensorFlow.
        if type(error).__name__ not in ("MemoryError", "ResourceExhaustedError"):
            raise
        _fail(
            program,
            "There is not enough memory. Reduce --filters, --image_size or --device_batch_size.",
            1,
        )


def _fail(program: str, message: str, code: int) -> None:
    print(f"{program}: error: {printable(message)}", file=sys.stderr, flush=True)
    sys.exit(code)


def parse(
    argv: Sequence[str],
    groups: Iterable[Group],
    program: str = "",
    doc: str = "",
    positional: Sequence[str] = (),
    files: bool = False,
) -> list:
    """Returns settings objects from a command line.

    With `files`, the last element is the list of arguments that are not flags.

    Raises:
        InputError: A flag is unknown, a value is out of range, or a flag file does not exist.
    """
    args = expand_flag_files(argv[1:])
    given = [g.chosen(args) if isinstance(g, OneOf) else g for g in groups]
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may come after other arguments
    for group in given:
        for field in fields(_kind(group)):
            default = getattr(group, field.name, field.default)
            _DEFINE[field.type](field.name, default, field.metadata["help"], flag_values=values)
    if any(arg.lstrip("-") in ("help", "helpshort", "helpfull", "h") for arg in args):
        print(_help(given, [g for g in groups if isinstance(g, OneOf)], program, doc))
        sys.exit(0)
    try:
        rest = values([argv[0], *args])
    except (flags.Error, ValueError) as error:  # absl raises both
        raise InputError(_flag_error(str(error), given)) from None
    if len(rest) > 1 + len(positional) and not files:
        extra = rest[1 + len(positional)]
        raise InputError(f"'{extra}' is not a flag. Write flags as --name=value.")
    for name, value in zip(positional, rest[1:]):
        values[name].value = value
    _check_locale(values)
    chosen: list[Any] = []
    for group in given:
        names = [field.name for field in fields(_kind(group))]
        chosen.append(_kind(group)(**{name: values[name].value for name in names}))
    return [*chosen, rest[1:]] if files else chosen


def _kind(group: Settings | type[Settings]) -> type[Settings]:
    return group if isinstance(group, type) else type(group)


def _flag_error(message: str, groups: Iterable[Settings | type[Settings]]) -> str:
    """Rewrites a message of absl so that it names the kind of value."""
    kinds = {field.name: field.type for group in groups for field in fields(_kind(group))}
    match = re.match(r"flag --(?:no)?(\w+)=(.*?): ", message, re.DOTALL)
    if match is None or match[1] not in kinds:
        return message.rstrip(".") + "."
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
    }
    return f"--{match[1]} must be {words[kinds[match[1]]]}; got {short(match[2])}."


def _check_locale(values: flags.FlagValues) -> None:
    """Raises InputError if a value has characters that file names cannot have in this locale."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    for name in values:
        text = values[name].value
        try:
            (text if isinstance(text, str) else "").encode(encoding)
        except UnicodeEncodeError:
            raise InputError(
                f"--{name} has characters that the encoding of this locale ({encoding}) lacks: "
                f"{ascii(text)[:80]}. Set the environment variable PYTHONUTF8=1."
            ) from None


def expand_flag_files(args: Iterable[str], inside: tuple[pathlib.Path, ...] = ()) -> list[str]:
    """Replaces each `--flagfile=NAME` with the flags in that file.

    The search for a flag file starts in the folder of the file that includes it. It continues in
    the current folder, and then among the flag files of the package.

    Args:
        args: The arguments of a command line.
        inside: The flag files that are being expanded.

    Raises:
        InputError: A flag file does not exist, includes itself, or has a line that is not a flag.
    """
    expanded: list[str] = []
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


def _find_flag_file(value: str, inside: tuple[pathlib.Path, ...]) -> pathlib.Path:
    places = [path.parent for path in inside[-1:]] + [pathlib.Path.cwd(), *FLAG_FILE_FOLDERS]
    for place in places:
        path = place / os.path.expanduser(value)
        if value and path.is_file():
            return path.resolve()
    known = sorted({p.name for folder in FLAG_FILE_FOLDERS for p in folder.glob("*.flags")})
    raise InputError(
        f"--flagfile={value}: there is no such file here or in the package. The package has "
        f"{', '.join(known)}."
    )


def _help(
    groups: Iterable[Settings | type[Settings]], choices: Iterable[OneOf], program: str, doc: str
) -> str:
    """Returns the help text: the most used flags first, then the others by group."""
    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)
    lines = [doc.strip(), "", f"Usage: {program} [--flagfile=NAME.flags] [--name=value ...]"]
    first: list[Any]
    first, sections = [], []
    for group in groups:
        rest: list[Any]
        kind, rest = _kind(group), []
        for field in fields(kind):
            default = getattr(group, field.name, field.default)
            text = field.metadata["help"]
            for choice in (c for c in choices if c.flag == field.name):
                text += f" One of {', '.join(choice.classes)}. Each has flags of its own, which "
                text += f"--{field.name}=NAME --help shows."
            common = field.metadata["common"] or any(c.flag == field.name for c in choices)
            (first if common else rest).extend(_help_entry(field, text, default, width))
        if rest:
            heading = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")
            sections += ["", f"{heading}:", *rest]
    start = ["", "Most used flags:", *first] if first else []
    return "\n".join([*lines, *start, *sections])


def _help_entry(field: dataclasses.Field, text: str, default: Any, width: int) -> list[str]:
    sign = "[no]" if field.type is bool else ""
    text = f"{text} (default: {default!r})"
    entry = textwrap.wrap(f"--{sign}{field.name}: {text}", width - 2, subsequent_indent="    ",
                          break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return [f"  {line}" for line in entry]


def as_flag_lines(groups: Iterable[Settings]) -> list[str]:
    """Returns the values of settings objects as the lines of a flag file."""
    lines = []
    for group in groups:
        for name, value in group.to_dict().items():
            if isinstance(value, bool):
                lines.append(f"--{'' if value else 'no'}{name}")
            else:
                lines.append(f"--{name}={value}")
    return lines
