"""Every link, program and flag that the README and docs/ name is there."""

import importlib
import pathlib
import re

import pytest

from oneshot_tf.settings import command_line

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "BUILD_NOTES.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LIMITS = {"README.md": 150, "BUILD_NOTES.md": 150, "CONTRIBUTING.md": 60}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for text, target in re.findall(r"!?\[([^\]]*)\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{text}: {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", found.read_text())
            slugs = [re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{text}: {target}"


@pytest.mark.parametrize("name", LIMITS)
def test_pages_are_short(name):
    assert len((ROOT / name).read_text().splitlines()) <= LIMITS[name]


def commands(path):
    """Programs with their arguments, of code blocks; lines may be continued."""
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.match(r"\s*python -m oneshot_tf\.(\w+)(.*?)(\s#.*)?$", line)
            if match:
                yield match[1], match[2]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_commands_name_programs_flags_and_flag_files_that_exist(path):
    for program, arguments in commands(path):
        module = importlib.import_module(f"oneshot_tf.{program}")
        source = pathlib.Path(module.__file__).read_text()
        for name, value in re.findall(r"--(\w+)(?:=(\S+))?", arguments):
            if name == "flagfile" and "/" not in value:
                assert any((f / value).exists() for f in command_line.FLAG_FILE_FOLDERS), value
            assert name == "flagfile" or known(name, source), f"{program} --{name}"


def known(name, source):
    """Whether a flag is a field of some settings."""
    field = re.compile(rf"^    {name.removeprefix('no')}: \w+ = setting\(", re.MULTILINE)
    rooms = (ROOT / "oneshot_tf" / room for room in ("settings", "strategies", "planning"))
    files = (path for room in rooms for path in room.glob("*.py"))
    return any(field.search(path.read_text()) for path in files) or field.search(source)


def test_there_are_commands_to_check():
    assert sum(len(list(commands(path))) for path in PAGES) > 15
