"""Trains chosen architectures from scratch, as stand-alone models.

--select chooses architectures from RUN_DIR/candidates.csv, or a baseline to compare them with. Each
one is trained --repeats times.
After all training, the models are scored once on the test images (--evaluate_on). The results are
in RUN_DIR/retrain/NAME/result.json, the answers for all images in predictions.npz beside it. If
training stops, repeat the command to resume.
Next step: python -m oneshot_tf.export --run_dir=DIR
"""

import dataclasses
import gc
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from oneshot_tf import settings
from oneshot_tf.analysis.live import live_page
from oneshot_tf.cost.baselines import BASELINES, Baseline
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.data.inventory import format_short, inventory_of, warnings
from oneshot_tf.devices.distribution import check_alike, is_chief, make_strategy
from oneshot_tf.devices.threads import set_threads
from oneshot_tf.evaluation.shared_weights import Answers, score_and_answers
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.final_training import check_final
from oneshot_tf.learning.loop import check_batch_size, fit_standalone
from oneshot_tf.learning.steps import count_micro_batches
from oneshot_tf.learning.summaries import note_hparams
from oneshot_tf.nn.baselines import baseline_model
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.baselines import chosen_baseline, costs_of
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.runs.predictions import write_predictions
from oneshot_tf.runs.results import mean_std, net_seed, num_steps, owner_of, print_results
from oneshot_tf.runs.same_settings import affecting, check_same
from oneshot_tf.runs.selection import Strata
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.settings import (
    DeviceSettings,
    FinalSettings,
    LimitSettings,
    LocationSettings,
    ModelSettings,
    RetrainSettings,
    TrainSettings,
    command_line,
)
from oneshot_tf.settings.retrain import COSTS
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json
from oneshot_tf.system.printable import command
from oneshot_tf.system.progress import tell
from oneshot_tf.timing.choosing import check_within, select_within
from oneshot_tf.timing.limits import RunLimits


def main(
    run: settings.RunSettings,
    retrain: RetrainSettings,
    train: TrainSettings,
    device: DeviceSettings,
    location: LocationSettings,
    final: FinalSettings | None = None,
    limits: LimitSettings | None = None,
) -> None:
    """Trains and scores stand-alone models."""
    directory = RunDirectory(run.run_dir, retrain.search)
    check_one_shot(directory)
    model = directory.group(ModelSettings, "model")
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    retrain = dataclasses.replace(
        retrain,
        filters=retrain.filters or model.filters,
        num_cells=retrain.num_cells or model.num_cells,
        name=_folder_name(retrain),
    )
    stack = model.stack(retrain.num_cells, retrain.filters)
    limits = limits or LimitSettings()
    cost = COSTS[retrain.front] if retrain.select == "pareto" else ""
    chosen = _choose(directory, retrain, RunLimits(directory, limits, stack, cost=cost))
    folder = directory.path / "retrain" / retrain.name
    final = final or FinalSettings()
    groups = {"retrain": retrain, "train": train, "final": final, "device": device}
    made_with = _made_with(directory, groups, chosen)
    if limits.any() or cost:
        made_with["limits"] = limits.to_dict()  # the costs that were measured depend on them
    _check_same(folder / "settings.json", groups, made_with)
    ghosts = train.batch_size // train.ghost_batch_size
    devices = make_strategy(device.distribution, ghosts, groups.values())
    count_micro_batches(
        train.batch_size, train.ghost_batch_size, train.device_batch_size,
        devices.num_replicas_in_sync,
    )  # fmt: skip
    with opened(directory, devices, folder):
        dataset = directory.load_data(location, test=retrain.evaluate_on == "test")
        check_batch_size(train, dataset)
        jobs = _Jobs(directory, folder, dataset, stack, groups)
        if is_chief():
            _print_inventory(dataset)
            write_json(folder / "settings.json", made_with)
            directory.note_provenance(f"retrain/{retrain.name}")
        shared = f"{directory.path} (all workers must share --run_dir)"
        check_alike(f"candidates in {shared}", made_with["chosen"]["architectures"])
        with live_page(directory, "retrain", is_chief()):
            result = jobs.run(chosen) | _strata(directory, retrain)
        if is_chief():
            _finish(directory, folder, {**made_with, **result})


def _finish(directory: RunDirectory, folder: pathlib.Path, result: dict[str, Any]) -> None:
    write_json(folder / "result.json", result)
    note_hparams(folder, result)
    print_results(directory)
    print(
        f"The results are in {folder / 'result.json'}. Next: "
        f"{command('export', f'--run_dir={directory.path}')}",
        flush=True,
    )


def _made_with(
    directory: RunDirectory, groups: Mapping[str, settings.Settings], chosen: list[dict]
) -> dict[str, Any]:
    """Returns the entries of settings.json and result.json that say how the models were made."""
    return {
        **{name: group.to_dict() for name, group in groups.items()},
        "device": affecting(groups["device"]),
        "chosen": {"architectures": [str(c["architecture"]) for c in chosen]},
        "run_id": directory.run_id(),
    }


def _print_inventory(dataset: Dataset) -> None:
    inventory = inventory_of(dataset, decode_test=False)
    print(format_short(inventory), flush=True)
    for warning in warnings(inventory):
        print(f"Warning: {warning}", flush=True)


def _folder_name(retrain: RetrainSettings) -> str:
    name = retrain.name or ("architecture" if retrain.architecture else retrain.select)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise InputError(f"--name must be 1 to 100 letters, digits, '_' and '-'; got {name}.")
    return name


def _choose(
    directory: RunDirectory, retrain: RetrainSettings, limits: RunLimits
) -> list[dict[str, Any]]:
    """Returns the architectures to train, with their ranks, candidate accuracies and costs."""
    space = directory.space()
    candidates = CandidateFile(directory).read()
    if retrain.architecture:
        architecture = space.parse(retrain.architecture)
        check_within(architecture, limits)
        known = [c for c in ranked(candidates) if c.architecture == architecture]
    elif retrain.select == "all_on":
        search = directory.searched / "search.json"
        accuracy = read_json(search).get("all_on_accuracy") if search.exists() else None
        check_form(search, accuracy, (float, None))
        check_within(space.all_on(), limits)
        return [_unranked(space.all_on(), accuracy)]
    elif retrain.select in BASELINES:
        if limits:
            raise InputError(
                f"--select={retrain.select} takes --parameters and no limits. Leave out "
                f"{limits.given()}."
            )
        return [_unranked(chosen_baseline(directory, retrain, candidates))]
    else:
        known = select_within(candidates, retrain, limits)
    if not known:
        return [_unranked(architecture) | limits.measured(architecture)]
    if all(c.candidate_accuracy is None for c in candidates):
        print("No candidate has an accuracy. Their ranks are by divergence.", flush=True)
    return [
        {"architecture": c.architecture, "rank": c.rank, "candidate_num_images": c.num_images,
         "candidate_accuracy": c.candidate_accuracy, **limits.measured(c.architecture)}
        for c in known
    ]  # fmt: skip


def _unranked(
    architecture: Architecture | Baseline, accuracy: float | None = None
) -> dict[str, Any]:
    return {"architecture": architecture, "rank": None, "candidate_num_images": None,
            "candidate_accuracy": accuracy}  # fmt: skip


def _strata(directory: RunDirectory, retrain: RetrainSettings) -> dict[str, Any]:
    """Returns the strata, with which a stratified sample can stand for all candidates."""
    if retrain.architecture or retrain.select != "stratified":
        return {}
    candidates = CandidateFile(directory).read()
    return {"strata": dataclasses.asdict(Strata.of(candidates, retrain.count))}


def _check_same(
    path: pathlib.Path, groups: Mapping[str, settings.Settings], made_with: dict[str, Any]
) -> None:
    """Refuses to mix models of different settings, or of two runs, in one folder."""
    if not path.exists():
        return
    # Earlier versions had no tools of final training.
    before = {"final": FinalSettings().to_dict(), **read_json(path)}
    check_run(path, before, made_with["run_id"])
    check_form(path, before, dict.fromkeys([*groups, "chosen"], dict))
    way_out = f"Set --name to another name, or remove {path.parent}."
    check_same(path.parent, before, groups, way_out)
    if before["chosen"].get("architectures") != made_with["chosen"]["architectures"]:
        raise InputError(
            f"{path.parent} began with other architectures; candidates.csv has changed since. "
            f"{way_out}"
        )


class _Jobs:
    """The stand-alone models of one folder. Trains and evaluates them."""

    def __init__(
        self,
        directory: RunDirectory,
        folder: pathlib.Path,
        dataset: Dataset,
        stack: Stack,
        groups: Mapping[str, Any],
    ):
        self.stack, self.run_id = stack, directory.run_id()
        self.space, self.folder, self.dataset = directory.space(), folder, dataset
        self.retrain, self.train_settings = groups["retrain"], groups["train"]
        self.final, self.device = groups["final"], groups["device"]
        retrain, train = self.retrain, self.train_settings
        self.repeats = range(retrain.first_run, retrain.first_run + retrain.repeats)
        self.on_test = retrain.evaluate_on == "test"
        self.training = dataset.with_validation_in_train() if self.on_test else dataset
        self.num_steps = num_steps(retrain.epochs, len(self.training.train), train.batch_size)
        check_final(self.final, self.training, self.num_steps, train.batch_size)
        self.answers: list[Answers] = []  # of all models, in the order of their scoring

    def run(self, chosen: list[dict[str, Any]]) -> dict[str, Any]:
        """Trains all models, then evaluates them."""
        for index, candidate in enumerate(chosen):
            for repeat in self.repeats:
                part = f"net {index + 1}/{len(chosen)}, run {repeat + 1}/{self.repeats.stop}"
                print(f"{self.retrain.name}: {part}: {candidate['architecture']}", flush=True)
                more = (len(chosen) - index) * len(self.repeats) - self.repeats.index(repeat) - 1
                tell(part=part, architecture=str(candidate["architecture"]), more=str(more))
                self.train(candidate["architecture"], index, repeat)
        return self.evaluate(chosen)

    def train(self, architecture: Architecture | Baseline, index: int, repeat: int) -> None:
        """Trains one model, or resumes its training."""
        checkpoints = self._checkpoints(index, repeat)
        checkpoints.check_newest_size(self._costs(architecture)["parameters"])
        net, seed = self._net(architecture, repeat)
        fit_standalone(
            net, self.training, self.num_steps, self.train_settings, seed,
            self._folder(index, repeat), device=self.device, owner=self._owner(index, repeat),
            final=self.final,
        )  # fmt: skip
        gc.collect()

    def evaluate(self, chosen: list[dict[str, Any]]) -> dict[str, Any]:
        """Scores every trained model. Only `export` scores test images too, afterwards."""
        split = self.dataset.load_test() if self.on_test else self.dataset.validation
        nets = [self._evaluate_net(split, index, c) for index, c in enumerate(chosen)]
        means = [net["mean"] for net in nets]
        return {
            "evaluated_on": self.retrain.evaluate_on,
            "evaluated_in": "float32",  # like the exported model
            "num_images": len(split),
            "num_training_images": len(self.training.train),
            "num_steps": self.num_steps,
            "nets": nets,
            **mean_std(means),
            "predictions": write_predictions(self.folder, self.answers) if is_chief() else None,
        }

    def _evaluate_net(self, split: Any, index: int, candidate: dict[str, Any]) -> dict[str, Any]:
        scores = []
        architecture = candidate["architecture"]
        for repeat in self.repeats:
            net, _ = self._net(architecture, repeat)
            checkpoints = self._checkpoints(index, repeat)
            checkpoints.restore_step(self.num_steps, net.variables, averaged=True)
            try:
                score, answers = score_and_answers(net, split, self.dataset.normalize)
            except InputError as error:
                raise InputError(f"{checkpoints.path(self.num_steps)}: {error}") from None
            scores.append(score)
            self.answers.append(answers)
        accuracies = [score.accuracy for score in scores]
        return {
            **candidate,
            "architecture": str(architecture),
            **self._costs(architecture),
            "folder": [
                str(self._folder(index, r).relative_to(self.folder.parent)) for r in self.repeats
            ],
            "accuracies": accuracies,
            "balanced_accuracies": [score.balanced_accuracy for score in scores],
            **mean_std(accuracies),
        }

    def _net(self, architecture: Architecture | Baseline, repeat: int) -> tuple[Any, int]:
        seed = net_seed(self.retrain.seed, architecture, repeat)
        classes, dtype = self.dataset.num_classes, self.device.dtype
        if isinstance(architecture, Baseline):
            return baseline_model(architecture, self.stack, classes, seed, dtype), seed
        return Standalone(self.space, architecture, self.stack, classes, seed, dtype), seed

    def _costs(self, architecture: Architecture | Baseline) -> dict[str, int]:
        sizes = (self.stack, self.dataset.num_classes, self.dataset.image_size)
        return costs_of(self.space, architecture, *sizes)

    def _checkpoints(self, index: int, repeat: int) -> Checkpoints:
        return Checkpoints(
            self._folder(index, repeat) / "checkpoints",
            owner=self._owner(index, repeat),
            num_steps=self.num_steps,
        )

    def _folder(self, index: int, repeat: int) -> pathlib.Path:
        return self.folder / f"net_{index:02d}" / f"run_{repeat}"

    def _owner(self, index: int, repeat: int) -> str | None:
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
        settings.FinalSettings,
        LimitSettings,
    )
