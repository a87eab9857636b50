"""Trains chosen architectures from scratch, as stand-alone models.

--select chooses architectures from RUN_DIR/candidates.csv, or a baseline to compare them with. Each
one is trained --repeats times.
After all training, the models are scored once on the test images (--evaluate_on). The results are
in RUN_DIR/retrain/NAME/result.json, the answers for all images in predictions.npz beside it. If
training stops, repeat the command to resume. With --share_work, start the same command several
times.
Next step: python -m oneshot_tf.export --run_dir=DIR
"""

import contextlib
import dataclasses
import functools
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
from oneshot_tf.learning.loop import check_batch_size
from oneshot_tf.learning.steps import count_micro_batches
from oneshot_tf.learning.summaries import note_hparams
from oneshot_tf.retraining.jobs import Jobs
from oneshot_tf.retraining.sharing import FOLDER, share
from oneshot_tf.runs.baselines import chosen_baseline
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.opened import opened
from oneshot_tf.runs.results import print_results
from oneshot_tf.runs.same_settings import affecting, check_same
from oneshot_tf.runs.selection import Strata, how_to_find_candidates
from oneshot_tf.runs.sizes import check_one_shot
from oneshot_tf.settings import (
    DeviceSettings,
    FinalSettings,
    LimitSettings,
    LocationSettings,
    ModelSettings,
    RetrainSettings,
    SharingSettings,
    TrainSettings,
    command_line,
)
from oneshot_tf.settings.retrain import COSTS
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.files import discard_folder
from oneshot_tf.system.hints import print_with_next
from oneshot_tf.system.json_files import check_form, check_run, read_json, write_json
from oneshot_tf.system.locks import in_turn
from oneshot_tf.system.printable import command
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
    sharing: SharingSettings | None = None,
) -> None:
    """Trains and scores stand-alone models."""
    sharing = sharing or SharingSettings()
    sharing.check_distribution(device.distribution)
    directory = RunDirectory(run.run_dir, retrain.search)
    check_one_shot(directory)
    model = directory.group(ModelSettings, "model")
    set_threads(directory.threads(device.threads))  # before TensorFlow starts
    retrain = _completed(retrain, model)
    stack = model.stack(retrain.num_cells, retrain.filters)
    limits, folder = limits or LimitSettings(), directory.path / "retrain" / retrain.name
    cost = COSTS[retrain.front] if retrain.select == "pareto" else ""
    # The first copy measures, and the others read what it measured.
    alone = in_turn(folder, "measure costs") if sharing.share_work else contextlib.nullcontext()
    with alone:
        chosen = _choose(directory, retrain, RunLimits(directory, limits, stack, cost=cost))
    groups = {"retrain": retrain, "train": train, "final": final or FinalSettings(),
              "device": device}  # fmt: skip
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
    page = live_page(directory, "retrain", is_chief(devices))
    with opened(directory, devices, folder, sharing.share_work), page:
        dataset = directory.load_data(location, test=retrain.evaluate_on == "test")
        check_batch_size(train, dataset)
        jobs = Jobs(directory, folder, dataset, stack, groups)
        begin = functools.partial(_begin, directory, jobs, groups, made_with, sharing.share_work)
        finish = functools.partial(_finish, directory, jobs, made_with)
        if sharing.share_work:
            share(jobs, chosen, sharing.claim_seconds, begin, finish)
        else:
            begin()
            finish(jobs.run(chosen))
        if is_chief():
            _print_end(directory, folder)


def _begin(
    directory: RunDirectory,
    jobs: Jobs,
    groups: Mapping[str, settings.Settings],
    made_with: dict[str, Any],
    shared: bool,
) -> None:
    """Writes settings.json. No other process may begin at the same time.

    If the work is shared, a result.json must have the same settings, because other copies may be
    done. Otherwise this process has the folder to itself, and it removes what copies left.
    """
    folder = jobs.folder
    _check_same(folder / "settings.json", groups, made_with)  # it may have come meanwhile
    if shared:
        _check_same(folder / "result.json", groups, made_with)
    if is_chief():
        if not shared:
            discard_folder(folder / FOLDER)
        _print_inventory(jobs.dataset)
        write_json(folder / "settings.json", made_with)
        directory.note_provenance(f"retrain/{jobs.retrain.name}")
    where = f"{directory.path} (all workers must share --run_dir)"
    check_alike(f"candidates in {where}", made_with["chosen"]["architectures"])


def _finish(
    directory: RunDirectory, jobs: Jobs, made_with: dict[str, Any], scores: dict[str, Any]
) -> None:
    result = {**made_with, **scores, **_strata(directory, jobs.retrain)}
    if is_chief():
        write_json(jobs.folder / "result.json", result)
        note_hparams(jobs.folder, result)


def _print_end(directory: RunDirectory, folder: pathlib.Path) -> None:
    print_results(directory)
    next_command = command("export", f"--run_dir={directory.path}")
    print_with_next(f"The results are in {folder / 'result.json'}.", next_command)


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


def _completed(retrain: RetrainSettings, model: ModelSettings) -> RetrainSettings:
    """Returns the settings with the sizes of the one-shot model and the name of the folder."""
    return dataclasses.replace(
        retrain,
        filters=retrain.filters or model.filters,
        num_cells=retrain.num_cells or model.num_cells,
        name=_folder_name(retrain),
    )


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
    elif not candidates:
        raise InputError(
            f"--select={retrain.select} needs candidates, and {directory.searched} has none. "
            f"{how_to_find_candidates(directory)}"
        )
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
        SharingSettings,
    )
