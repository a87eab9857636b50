"""Trains chosen architectures from scratch, as stand-alone nets.

Chooses from RUN_DIR/candidates.csv (--select), trains each --repeats times,
scores the nets once on the test images, at the end, and writes RUN_DIR/retrain/NAME/result.json.
Started again it goes on where it stopped. Next: python -m oneshot_tf.export --run_dir=DIR.
"""

import contextlib
import dataclasses
import gc
import re
import zlib

import numpy as np

from oneshot_tf import settings
from oneshot_tf.cost import counts
from oneshot_tf.data.inventory import format_short, warnings
from oneshot_tf.devices.distribution import check_alike, is_chief, make_strategy, watching
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.shared_weights import evaluate_standalone
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.loop import check_batch_size, fit_standalone
from oneshot_tf.learning.steps import count_turns
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import Strata, ranked, select
from oneshot_tf.runs.directory import RunDirectory, check_same
from oneshot_tf.runs.results import mean_std, num_steps, owner_of, print_results
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.settings import command_line
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import check_form, check_run, read_json, remove_leftovers, write_json
from oneshot_tf.system.locks import locked
from oneshot_tf.system.printable import command


def main(run, retrain, train, device, location) -> None:
    """Retrains; each argument is the object of `settings` of that kind."""
    directory = RunDirectory(run.run_dir)
    check_one_shot(directory)
    model = directory.group(settings.ModelSettings, "model")
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    retrain = dataclasses.replace(
        retrain,
        filters=retrain.filters or model.filters,
        num_cells=retrain.num_cells or model.num_cells,
        name=_folder_name(retrain),
    )
    chosen = _choose(directory, retrain)
    folder = directory.path / "retrain" / retrain.name
    made_with = {
        "retrain": retrain.to_dict(),
        "train": train.to_dict(),
        "device": {"mixed_precision": device.mixed_precision},
        "chosen": {"architectures": [str(c["architecture"]) for c in chosen]},
    }
    _check_same(folder / "settings.json", made_with, directory.run_id())
    made_with["run_id"] = directory.run_id()
    ghosts = train.batch_size // train.ghost_batch_size
    strategy = make_strategy(device.distribution, ghosts, (retrain, train, device))
    count_turns(
        train.batch_size, train.ghost_batch_size, train.device_batch_size,
        strategy.num_replicas_in_sync,
    )  # fmt: skip
    with contextlib.ExitStack() as held:
        if is_chief(strategy):
            held.enter_context(directory.locked(shared=True))
            held.enter_context(locked(folder))
            remove_leftovers(folder)
        held.enter_context(watching(strategy))
        dataset = directory.load_data(location, test=retrain.evaluate_on == "test")
        check_batch_size(train, dataset)
        if is_chief(strategy):
            _print_inventory(dataset.inventory(decode_test=False))
            write_json(folder / "settings.json", made_with)
            directory.note_provenance(f"retrain/{retrain.name}")
        with strategy.scope():
            shared = f"{directory.path} (--run_dir is a folder that all of them share)"
            check_alike(f"candidates in {shared}", [str(c["architecture"]) for c in chosen])
            stack = model.stack(retrain.num_cells, retrain.filters)
            jobs = _Jobs(directory, folder, dataset, stack, retrain, train, device)
            result = jobs.run(chosen) | _strata(directory, retrain)
        if is_chief(strategy):
            write_json(folder / "result.json", {**made_with, **result})
            print_results(directory)
            print(
                f"Results are in {folder / 'result.json'}. Next: "
                f"{command('export', f'--run_dir={directory.path}')}",
                flush=True,
            )


def _print_inventory(inventory):
    print(format_short(inventory), flush=True)
    for warning in warnings(inventory):
        print(f"Warning: {warning}", flush=True)


def _folder_name(retrain) -> str:
    name = retrain.name or ("architecture" if retrain.architecture else retrain.select)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise InputError(f"--name={name}: needed are up to 100 letters, digits, '_' and '-'.")
    return name


def _choose(directory, retrain) -> list[dict]:
    """The architectures to train, each with its rank and candidate accuracy where known."""
    space = directory.space()
    candidates = CandidateFile(directory).read()
    if retrain.architecture:
        architecture = Architecture.from_text(retrain.architecture)
        space.check(architecture)
        known = [c for c in ranked(candidates) if c.architecture == architecture]
    elif retrain.select == "all_on":
        search = directory.path / "search.json"
        accuracy = read_json(search).get("all_on_accuracy") if search.exists() else None
        check_form(search, accuracy, (float, None))
        return [_unranked(space.all_on(), accuracy)]
    else:
        known = select(candidates, retrain)
    if not known:
        return [_unranked(architecture)]
    if all(c.candidate_accuracy is None for c in candidates):
        print("No candidate has an accuracy, so their ranks are by divergence.", flush=True)
    return [
        {"architecture": c.architecture, "rank": c.rank, "candidate_num_images": c.num_images,
         "candidate_accuracy": c.candidate_accuracy}
        for c in known
    ]  # fmt: skip


def _unranked(architecture, accuracy=None) -> dict:
    return {"architecture": architecture, "rank": None, "candidate_num_images": None,
            "candidate_accuracy": accuracy}  # fmt: skip


def _strata(directory, retrain) -> dict:
    """What it takes to weight a stratified sample as all candidates are distributed."""
    if retrain.architecture or retrain.select != "stratified":
        return {}
    candidates = CandidateFile(directory).read()
    return {"strata": dataclasses.asdict(Strata.of(candidates, retrain.count))}


def _check_same(path, made_with, run_id):
    """Refuses to mix nets of different settings, or of two runs, in one folder."""
    if not path.exists():
        return
    before = read_json(path)
    check_run(path, before, run_id)
    check_form(path, before, dict.fromkeys(made_with, dict))
    way_out = f"Give --name=OTHER for a folder of its own, or remove {path.parent}."
    check_same(path.parent, before, made_with, way_out, free=["architectures"])
    if before["chosen"].get("architectures") != made_with["chosen"]["architectures"]:
        raise InputError(
            f"{path.parent} was begun with other architectures: candidates.csv has changed since. "
            f"{way_out}"
        )


class _Jobs:
    """Trains and evaluates the stand-alone nets of one folder."""

    def __init__(self, directory, folder, dataset, stack, retrain, train, device):
        self.stack, self.run_id = stack, directory.run_id()
        self.space, self.folder, self.dataset = directory.space(), folder, dataset
        self.retrain, self.train_settings, self.device = retrain, train, device
        self.repeats = range(retrain.first_run, retrain.first_run + retrain.repeats)
        self.on_test = retrain.evaluate_on == "test"
        self.training = dataset.with_validation_in_train() if self.on_test else dataset
        self.num_steps = num_steps(retrain.epochs, len(self.training.train), train.batch_size)

    def run(self, chosen) -> dict:
        """Trains all, then evaluates all."""
        for index, candidate in enumerate(chosen):
            for repeat in self.repeats:
                print(
                    f"{self.retrain.name}: net {index + 1}/{len(chosen)}, run "
                    f"{repeat + 1}/{self.repeats.stop}: {candidate['architecture']}",
                    flush=True,
                )
                self.train(candidate["architecture"], index, repeat)
        return self.evaluate(chosen)

    def train(self, architecture, index, repeat) -> None:
        checkpoints = self._checkpoints(index, repeat)
        checkpoints.check_newest_size(self._costs(architecture)["parameters"])
        net, seed = self._net(architecture, repeat)
        fit_standalone(
            net, self.training, self.num_steps, self.train_settings, seed,
            self._folder(index, repeat), self.device, self._owner(index, repeat),
        )  # fmt: skip
        gc.collect()

    def evaluate(self, chosen) -> dict:
        """Scores every trained net; the only place where test images are decoded and scored."""
        split = self.dataset.load_test() if self.on_test else self.dataset.validation
        nets = [self._evaluate_net(split, index, c) for index, c in enumerate(chosen)]
        means = [net["mean"] for net in nets]
        return {
            "evaluated_on": self.retrain.evaluate_on,
            "evaluated_in": "float32",  # as the served model computes
            "num_images": len(split),
            "num_training_images": len(self.training.train),
            "num_steps": self.num_steps,
            "nets": nets,
            **mean_std(means),
        }

    def _evaluate_net(self, split, index, candidate):
        accuracies = []
        architecture = candidate["architecture"]
        for repeat in self.repeats:
            net, _ = self._net(architecture, repeat)
            checkpoints = self._checkpoints(index, repeat)
            checkpoints.restore_step(self.num_steps, net.variables)
            try:
                score = evaluate_standalone(net, split, self.dataset.normalize)
            except InputError as error:
                raise InputError(f"{checkpoints.path(self.num_steps)}: {error}") from None
            accuracies.append(score.accuracy)
        return {
            **candidate,
            "architecture": str(architecture),
            **self._costs(architecture),
            "folder": [
                str(self._folder(index, r).relative_to(self.folder.parent)) for r in self.repeats
            ],
            "accuracies": accuracies,
            **mean_std(accuracies),
        }

    def _net(self, architecture, repeat):
        # The same run of the same architecture in whatever selection.
        entropy = [self.retrain.seed, zlib.crc32(str(architecture).encode()), repeat]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)
        classes, dtype = self.dataset.num_classes, self.device.dtype
        return Standalone(self.space, architecture, self.stack, classes, seed, dtype), seed

    def _costs(self, architecture) -> dict:
        counted = (self.space, [architecture], self.stack, self.dataset.num_classes)
        return {
            "parameters": int(counts.parameters(*counted)[0]),
            "multiply_adds": int(counts.multiply_adds(*counted, self.dataset.image_size)[0]),
        }

    def _checkpoints(self, index, repeat) -> Checkpoints:
        return Checkpoints(
            self._folder(index, repeat) / "checkpoints",
            owner=self._owner(index, repeat),
            num_steps=self.num_steps,
        )

    def _folder(self, index, repeat):
        return self.folder / f"net_{index:02d}" / f"run_{repeat}"

    def _owner(self, index, repeat):
        place = self._folder(index, repeat).relative_to(self.folder.parent)
        return owner_of(self.run_id, place)


if __name__ == "__main__":
    command_line.run(
        main,
        settings.RunSettings,
        settings.RetrainSettings,
        settings.TrainSettings,
        settings.DeviceSettings,
        settings.LocationSettings,
    )
