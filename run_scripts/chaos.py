"""Kills the programs at random moments and checks that their results stay the same.

    python run_scripts/chaos.py                     # 50 trials, about 25 minutes on two cores
    python run_scripts/chaos.py --trials=5 --seed=7 --only=train,evolution
    python run_scripts/chaos.py --trials=0 --mutations=300

Each trial starts one program on a copy of a run that is ready for it. The programs are train,
search, a race, retrain, export, tune and three searches that learn (evolution, q_learning and
predictor), one after another. auto takes minutes, so only --only=auto starts it. Trainings that
learn the architecture start only with --only=darts,gumbel,enas. SIGKILL ends the program --kills
times, after a random time or, in every second round of programs, while it writes a
file. The same command starts it again each time. Then the program runs to its end. The trial
survives if the result equals that of an uninterrupted run: weights and optimizer state of all
checkpoints bit by bit, metrics.jsonl except for images_per_second, candidates.csv, search.json,
result.json, table.txt, the weights in the SavedModel byte by byte, and no other files. Also, every
file under its final name must be whole right after a kill: checkpoints, JSON files, and every
version of the export. All trials use scikit-learn's digits and a small model.

--mutations changes one file of a run directory at a time (mutations.py lists the changes) and runs
a program on it. The programs are train, search, a race, retrain, export and analyze, one after
another, on a run that is ready for the program or that it finished. The program must refuse the
directory in one line, or end with the result of the unchanged directory.
"""

import argparse
import collections
import hashlib
import importlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import time

import mutations
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = ["train", "--dataset=digits", "--num_validation=200", "--num_blocks=2", "--num_cells=2",
         "--filters=4", "--train_steps=60", "--batch_size=64", "--checkpoint_steps=5",
         "--log_steps=3"]  # fmt: skip
LEARNERS = {"darts": [*TRAIN, "--strategy=darts"], "gumbel": [*TRAIN, "--strategy=gumbel"],
            "enas": [*TRAIN, "--strategy=enas", "--phase_steps=10",
                     "--phase_updates=10"]}  # fmt: skip
SEARCH = ["search", "--num_candidates=300"]
RACE = ["search", "--num_candidates=300", "--budget=race", "--finalists=5"]
EVOLUTION = [*SEARCH, "--strategy=evolution", "--population=50", "--sample_size=10"]
Q_LEARNING = [*SEARCH, "--strategy=q_learning"]
PREDICTOR = [*SEARCH, "--strategy=predictor", "--first_random=100", "--pool=200"]
STAND_ALONE = ["search", "--num_candidates=4", "--evaluator=stand_alone", "--epochs=2"]
RETRAIN = ["retrain", "--top=20", "--count=2", "--repeats=2", "--epochs=1", "--batch_size=64",
           "--checkpoint_steps=4", "--log_steps=3"]  # fmt: skip
EXPORT = ["export", "--net=top/net_01/run_1"]
OTHER_EXPORT = ["export", "--net=top/net_00/run_0"]  # the version before that of EXPORT
TUNE = ["tune", *TRAIN[1:-3], "--train_steps=8", "--batch_size=64", "--tuner=random",
        "--max_trials=3", "--num_candidates=10"]  # fmt: skip
ANALYZE = ["analyze", "--resamples=100"]
AUTO = ["auto", "--data=digits", "--budget=quick", "--num_cells=2", "--filters=2",
        "--format=saved_model"]  # fmt: skip
COMMANDS = {"train": TRAIN, "search": SEARCH, "race": RACE, "retrain": RETRAIN, "export": EXPORT,
            "tune": TUNE, "analyze": ANALYZE, "evolution": EVOLUTION, "q_learning": Q_LEARNING,
            "predictor": PREDICTOR, "stand_alone": STAND_ALONE, "auto": AUTO,
            **LEARNERS}  # fmt: skip
# The last three are KerasTuner's: starts of a trial, times of day, and a set, which has no order.
_NOT_COMPARED = ("run_id", "checksum", "seconds", "spent", "run_times", "display", "tried_so_far")
STRATEGIES = ("evolution", "q_learning", "predictor", "stand_alone")
KILLED = ("train", "search", "race", "retrain", "export", "tune", *STRATEGIES)
MUTATED = ("train", "search", "race", "retrain", "export", "analyze")


def start(command, run):
    """Starts a program on a run directory as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    place = f"--{'out' if command[0] == 'auto' else 'run_dir'}={run}"
    line = [sys.executable, "-m", f"oneshot_tf.{command[0]}", *command[1:], place]
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(command, run) -> float:
    """Runs a program to its end and returns its seconds. Raises RuntimeError if it fails."""
    started = time.monotonic()
    process = start(command, run)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors[-1000:]}")
    return time.monotonic() - started


BEFORE = {"train": [], "search": ["train"], "race": ["train"], "retrain": ["train", "search"],
          "export": ["train", "search", "retrain"], "tune": [], "auto": [],
          "analyze": ["train", "search", "retrain"],
          **dict.fromkeys(STRATEGIES, ["train"]), **dict.fromkeys(LEARNERS, [])}  # fmt: skip


def prepare(base, names) -> dict:
    """Runs programs once. Returns (run to start on, final contents, seconds) by name."""
    ready = {name: base / name for name in COMMANDS}
    after = {name: base / f"{name}_done" for name in COMMANDS}
    for name in (name for name, before in BEFORE.items() if not before):
        ready[name].mkdir()
    seconds = {}
    needed = {*names, *(before for name in names for before in BEFORE[name])}
    for name in (name for name in COMMANDS if name in needed):
        for before in BEFORE[name][-1:]:
            shutil.copytree(after[before], ready[name])
        if name == "export":
            finish(OTHER_EXPORT, ready[name])
        shutil.copytree(ready[name], after[name])
        seconds[name] = finish(COMMANDS[name], after[name])
        print(f"{name}: {seconds[name]:.1f} s uninterrupted", flush=True)
    return {name: (ready[name], outcome(after[name]), seconds[name]) for name in names}


def outcome(run) -> dict:
    """Returns the contents that must be equal, by name of the file."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        mode = path.lstat().st_mode
        if path.name.startswith("."):
            found[name] = "left over"
        elif not stat.S_ISREG(mode):
            found.update({} if stat.S_ISDIR(mode) else {name: "no file"})
        else:
            try:
                value = contents(path)
            except Exception as error:  # a mutation damaged the file
                value = f"{type(error).__name__}, {digest(path.read_bytes())}"
            if value is not None:
                found[name] = value
    return found


def contents(path):
    """Returns the contents of a file, or None for a file that is not compared.

    It leaves out rates, seconds and the run's id, because the id is random.
    """
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in x.items() if k != "images_per_second"} for x in lines]
    elif path.suffix == ".npz" and path.parent.name == "checkpoints":
        with np.load(path) as arrays:
            names = set(arrays.files) - {"checkpoint/owner"}
            return {key: digest(arrays[key].tobytes()) for key in names}
    elif path.name == "candidates.csv" or path.name == "trials.csv":
        return [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    elif path.suffix in (".csv", ".txt") or path.name.startswith("variables.data"):
        return digest(path.read_bytes())
    elif path.suffix == ".json":
        value = json.loads(path.read_text())
        return {k: v for k, v in value.items() if k not in _NOT_COMPARED}
    return None


def digest(data: bytes) -> str:
    """Returns a checksum of contents."""
    return hashlib.md5(data).hexdigest()


def broken(run, exports) -> list[str]:
    """Returns messages about files that have their final name but are not whole."""
    wrong = []
    for path in run.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(run).parts):
            continue  # the file is being written
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                with np.load(path) as arrays:
                    any(arrays[key] is None for key in arrays.files)
        except Exception as error:
            wrong.append(f"{path.relative_to(run)}: {error}")
    for version in (run / "export").glob("[0-9]*") if exports else ():
        if tree(version) not in exports:
            wrong.append(f"export/{version.name}: it is neither the old nor the new export")
    return wrong


def one_newest(found) -> dict:
    """Returns an outcome of export without the versions between the first and the newest.

    A program that was killed after it had written a version writes the same once more.
    """
    folders = {tuple(name.split("/")[:2]) for name in found if name.startswith("export/")}
    numbers = {int(number) for _, number in folders if number.isdecimal()}
    last = max(numbers, default=0)
    between = {f"export/{number}" for number in numbers} - {"export/1", f"export/{last}"}
    newest = f"export/{last}/"
    return {
        f"export/newest/{name.removeprefix(newest)}" if name.startswith(newest) else name: value
        for name, value in found.items()
        if "/".join(name.split("/")[:2]) not in between
    }


def tree(folder) -> dict:
    """Returns checksums of the files of a SavedModel that are the same at every export."""
    names = ("architecture.json", "variables/variables.data-00000-of-00001")
    paths = {name: folder / name for name in names}
    return {n: digest(p.read_bytes()) for n, p in paths.items() if p.exists()}


def being_written(run) -> set[str]:
    """Returns the files and folders that the program will rename when they are whole."""
    names = {f"{at}/{name}" for at, *names in os.walk(run) for name in sum(names, [])}
    return {name for name in names if name.endswith(".writing")}


def kill(command, run, rng, seconds, while_writing) -> str | None:
    """Starts a program and kills it. Returns when, or None if it had ended before."""
    current = being_written(run)  # left by an earlier kill
    process, began = start(command, run), time.monotonic()
    if while_writing:
        most = {"search": 3, "export": 2}.get(command[0], 13)  # checkpoints write more
        wanted, seen = int(rng.integers(1, most + 1)), 0
        while process.poll() is None and seen < wanted:
            now = being_written(run)
            seen += len(now - current)
            current = now
        delay = f"at write {seen}, {time.monotonic() - began:.1f} s"
    else:
        wait = rng.uniform(0.0, seconds)
        while process.poll() is None and time.monotonic() - began < wait:
            time.sleep(0.001)
        delay = f"after {wait:.1f} s"
    ended = process.poll() is not None
    process.kill()
    _, errors = process.communicate()
    if ended and process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors[-1000:]}")
    return None if ended else delay


def trial(name, prepared, scratch, rng, kills, while_writing) -> tuple[bool, str]:
    """Returns whether a program survived its kills, and what happened."""
    ready, expected, seconds = prepared[name]
    run = scratch / "run"
    shutil.copytree(ready, run)
    done = ready.parent / "export_done" / "export"
    exports = [tree(version) for version in sorted(done.glob("*"))]
    killed = []
    try:
        for _ in range(kills):
            when = kill(COMMANDS[name], run, rng, seconds, while_writing)
            if when is None:
                break
            killed.append(when)
            if wrong := broken(run, exports if name == "export" else None):
                return False, f"killed {'; '.join(killed)}: {wrong}"
        finish(COMMANDS[name], run)
        got = outcome(run)
        if name in ("export", "auto"):
            expected, got = one_newest(expected), one_newest(got)
        if name == "export" and (wrong := broken(run, exports)):
            return False, f"at the end: {wrong}"
    except RuntimeError as error:
        return False, f"killed {'; '.join(killed)}: {error}"
    finally:
        shutil.rmtree(run)
    differing = [key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key)]
    what = f"killed {len(killed)} times: {'; '.join(killed)}"
    return not differing, f"{what}; differing: {differing}" if differing else what


def mutation(name, prepared, scratch, rng) -> tuple[bool, str]:
    """Returns whether a program handled a changed file, and what happened."""
    ready, expected, _ = prepared[name]
    done = ready.parent / f"{name}_done"
    finished = name == "train" or rng.random() < 0.5
    run, outside = scratch / "run", scratch / "outside"
    shutil.copytree(done if finished else ready, run)
    outside.mkdir()
    try:
        path = mutations.pick(run, rng)
        changed = str(path.relative_to(run))
        how = mutations.mutate(path, rng, ready.parent / "other" / changed, outside)
        before, around = outcome(run), mutations.snapshot(outside)
        code, errors = mutations.run_forked([*COMMANDS[name]], run, scratch)
        wanted, got = before if code else expected, outcome(run)
        if name == "export":
            wanted, got = one_newest(wanted), one_newest(got)
        differing = mutations.differences(wanted, got, changed)
        touched = mutations.snapshot(outside) != around
        good, what = mutations.judge(code, errors, differing, touched)
    finally:
        mutations.forget(run)
        mutations.forget(outside)
    return good, f"{changed}: {how}: {what}"


def prepare_other(base):
    """Makes another run of the same shape, with another training seed."""
    (base / "other").mkdir()
    for command in ([*TRAIN, "--seed=1"], SEARCH, RETRAIN):
        finish(command, base / "other")


def kill_trials(arguments, base, scratch) -> bool:
    """Runs the trials that kill programs. Returns whether all survived."""
    rng = np.random.default_rng(arguments.seed)
    names = arguments.only.split(",") if arguments.only else list(KILLED)
    prepared = prepare(base / "kills", names)
    survived = kills = 0
    for number in range(arguments.trials):
        name = names[number % len(names)]
        while_writing = (number // len(names)) % 2 == 1
        good, what = trial(name, prepared, scratch, rng, arguments.kills, while_writing)
        survived += good
        kills += what.count(" s")
        state = "survived" if good else "FAILED"
        print(f"{number + 1}/{arguments.trials} {name}: {state}, {what}", flush=True)
    print(f"survived {survived}/{arguments.trials} ({kills} kills)", flush=True)
    return survived == arguments.trials


def mutation_trials(arguments, base, scratch) -> bool:
    """Runs the trials that change a file. Returns whether the programs handled all changes."""
    rng = mutations.generator(arguments.seed)
    names = arguments.only.split(",") if arguments.only else list(MUTATED)
    prepared = prepare(base / "mutations", names)
    prepare_other(base / "mutations")
    sys.path.insert(0, str(ROOT))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    importlib.import_module("oneshot_tf")
    counts = collections.Counter()
    for number in range(arguments.mutations):
        name = names[number % len(names)]
        good, what = mutation(name, prepared, scratch, rng)
        counts["handled" if good else "FAILED"] += 1
        counts["refused"] += good and ": refused: " in what
        state = "good" if good else "FAILED"
        print(f"{number + 1}/{arguments.mutations} {name}: {state}, {what}", flush=True)
    print(
        f"mutations: {counts['handled']}/{arguments.mutations} handled, including "
        f"{counts['refused']} refused in one line",
        flush=True,
    )
    return not counts["FAILED"]


def main():
    """Runs all trials and exits with 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=50, help="Trials that kill a program.")
    parser.add_argument("--kills", type=int, default=2, help="Kills in each trial.")
    parser.add_argument("--mutations", type=int, default=0, help="Trials that change a file.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the trials.")
    parser.add_argument(
        "--only", help=f"The programs to try, separated by commas: {', '.join(COMMANDS)}."
    )
    arguments = parser.parse_args()
    if unknown := set((arguments.only or TRAIN[0]).split(",")) - set(COMMANDS):
        parser.error(f"--only must name programs of {', '.join(COMMANDS)}; got {unknown}.")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        base, scratch = pathlib.Path(folder) / "base", pathlib.Path(folder) / "scratch"
        for path in (base / "kills", base / "mutations", scratch):
            path.mkdir(parents=True)
        if arguments.trials:
            good = kill_trials(arguments, base, scratch)
        if arguments.mutations:
            good = mutation_trials(arguments, base, scratch) and good
    sys.exit(not good)


if __name__ == "__main__":
    main()
