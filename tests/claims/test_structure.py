"""Imports point one way; the public API is what the README shows, and that runs."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import oneshot_tf as ost

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "oneshot_tf"
# What each room may import of ours, besides itself.
ALLOWED = {
    "system": set(),
    "space": {"system"},
    "cost": {"space", "system"},
    "settings": {"space", "system"},
    "devices": {"system"},
    "data": {"system"},
    "nn": {"cost", "devices", "space", "system"},
    "strategies": {"settings", "space", "system"},
    "learning": {"cost.counts", "devices", "settings", "strategies.protocols", "system"},
    "evaluation": {
        "cost",
        "data",
        "devices",
        "learning.losses",
        "nn",
        "space",
        "strategies",
        "system",
    },  # fmt: skip
    "runs": {
        "cost",
        "data",
        "devices",
        "learning.checkpoints",
        "settings",
        "space",
        "strategies",
        "system",
    },  # fmt: skip
    "searching": {
        "cost",
        "data",
        "devices",
        "evaluation",
        "learning",
        "nn",
        "runs",
        "settings",
        "space",
        "strategies",
        "system",
    },  # fmt: skip
    "retraining": {
        "cost",
        "data",
        "devices",
        "evaluation",
        "learning",
        "nn",
        "runs",
        "space",
        "system",
    },  # fmt: skip
    "serving": {"data", "system"},
    "timing": {"cost", "devices", "nn", "runs", "serving", "settings", "space", "system"},
    "analysis": {"runs", "settings", "space", "system"},
    "planning": {
        "cost",
        "data",
        "learning",
        "nn",
        "runs",
        "serving",
        "settings",
        "space",
        "system",
        "strategies",
        "timing",
    },  # fmt: skip
    "tuning": {
        "analysis",
        "data",
        "evaluation",
        "learning",
        "nn",
        "runs",
        "settings",
        "space",
        "strategies",
        "system",
    },  # fmt: skip
}
PROGRAMS = {
    "train",
    "search",
    "retrain",
    "export",
    "analyze",
    "draw",
    "tune",
    "predict",
    "plan",
    "reproduce",
    "measure",
    "auto",
}


def imports_of(path):
    """Modules of ours that a file imports, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "oneshot_tf":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("oneshot_tf."):
            yield node.module.removeprefix("oneshot_tf.")
        elif isinstance(node, ast.Import):
            assert not any(a.name.startswith("oneshot_tf") for a in node.names), path


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_point_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in PROGRAMS or part == "__init__":
        imported = {module.split(".")[0] for module in imports_of(path)}
        assert part == "auto" or not imported & PROGRAMS  # auto runs the others
        return
    for module in imports_of(path):
        top = module.split(".")[0]
        assert top == part or top in ALLOWED[part] or module in ALLOWED[part], module


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_files_functions_and_signatures_are_short(path):
    """350 lines a file; 50 a function, without its docstring; 7 parameters before a `*`.

    A program's `main` takes one object for each group of settings, so it may take more.
    """
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        first = node.body[0]
        is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        docstring = first.end_lineno - first.lineno + 1 if is_docstring else 0
        assert node.end_lineno - node.lineno + 1 - docstring <= 50, node.name
        names = [a.arg for a in node.args.posonlyargs + node.args.args]
        assert node.name == "main" or len(set(names) - {"self", "cls"}) <= 7, node.name


def test_parameters_are_typed():
    typed = total = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                every = [a for a in every if a.arg not in ("self", "cls")]
                total += len(every)
                typed += sum(a.annotation is not None for a in every)
    assert typed >= 0.95 * total


def test_no_file_is_a_drawer():
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc", "manager", "base"}


def test_folders_of_tests_are_those_of_the_package():
    """`programs` tests the verbs at the top, `claims` what crosses rooms."""
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders == {*ALLOWED, "programs", "claims"}


def test_public_names_are_there_and_documented():
    for name in ost.__all__:
        assert getattr(ost, name).__doc__, name


def readme_code():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if "fit_supernet" in block)


def test_the_readme_shows_the_workflow_in_few_lines():
    lines = [line for line in readme_code().splitlines() if line.strip()]
    assert len(lines) <= 15
    for name in ("bender2018", "Supernet", "PathDropout", "fit_supernet", "RandomSearch",
                 "evaluate", "Standalone", "fit_standalone", "write_saved_model"):  # fmt: skip
        assert f"ost.{name}(" in readme_code()
    assert set(re.findall(r"ost\.(\w+)", readme_code())) <= set(ost.__all__)


def test_the_readmes_lines_run(tmp_path):
    """As they are, with fewer steps and candidates."""
    code = readme_code()
    steps = dict.fromkeys(re.findall(r"num_steps=(\d+)|STEPS = (\d+)", code))
    assert steps, "the README's code has no number of steps"
    code = re.sub(r"(STEPS = |num_steps=)\d+", r"\g<1>3", code)
    code = re.sub(r"propose\(\d+\)", "propose(3)", code)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("saved_model.pb"))


def test_importing_without_tensorflow_says_what_to_install():
    code = "import sys; sys.modules['tensorflow'] = None; import oneshot_tf"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "oneshot_tf[cpu]" in last and "oneshot_tf[tpu]" in last
