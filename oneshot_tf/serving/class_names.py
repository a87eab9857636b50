"""New names of classes, from a text file."""

import re

from oneshot_tf.system.errors import InputError, plain
from oneshot_tf.system.files import user_path


def renamed_classes(path: str, known: list[str]) -> list[str]:
    """Returns the new names of the classes whose names in the data set are `known`.

    A line of the file is the name of a class, a space or a tab, and its new name. Both names may
    contain spaces. If several classes match the beginning of a line, a tab decides, then the
    longest name.
    """
    if not path:
        return known
    try:
        lines = user_path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"--class_names={path} cannot be read: {plain(error)}") from None
    classes, called = set(known), {}
    for line in map(str.strip, lines):
        gaps = [(gap.group() == "\t", gap.start(), gap.end()) for gap in re.finditer(r"\s+", line)]
        for _, end, start in sorted(gaps, reverse=True):
            if line[:end] in classes:
                called[line[:end]] = line[start:]
                break
    missing = [name for name in known if name not in called]
    if missing:
        raise InputError(
            f"--class_names={path} has no line for {len(missing)} of the {len(known)} classes, "
            f"for example {missing[0]}. Each class needs a line: its name in the data set, a "
            "space or a tab, and the new name."
        )
    names = [called[name] for name in known]
    # Tells apart equal new names: ImageNet has two classes named crane.
    return [f"{n} ({k})" if names.count(n) > 1 else n for n, k in zip(names, known)]
