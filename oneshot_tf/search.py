"""Ranks candidate architectures with the weights of a trained one-shot model.

Samples architectures, evaluates each on the validation images, and writes
RUN_DIR/candidates.csv. Started again it goes on where it stopped; with a larger
--num_candidates it adds to what is there. Next:
python -m oneshot_tf.retrain --run_dir=DIR.
"""

import dataclasses

import tensorflow as tf

from oneshot_tf import config, settings
from oneshot_tf.candidates import Candidate, CandidateFile, ranked
from oneshot_tf.errors import InputError
from oneshot_tf.evaluation import CandidateEvaluator
from oneshot_tf.files import read_json, write_json
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.nn.supernet import Supernet
from oneshot_tf.progress import Progress
from oneshot_tf.records import RunDirectory
from oneshot_tf.space import cost
from oneshot_tf.strategies import RandomSearch

_ASK = 64  # architectures proposed at a time


def main(run, search, location) -> None:
    """Searches; each argument is the object of `settings` of that kind."""
    directory = RunDirectory(run.run_dir)
    directory.config()  # says so where there is no run
    space = directory.space()
    file = CandidateFile(directory.path / "candidates.csv", space)
    done = {c.architecture: c for c in file.read()}
    supernet, step = restore_supernet(directory)
    _check_same_search(directory, {"seed": search.seed, "step": step}, bool(done))
    wanted = min(search.num_candidates, space.num_architectures)
    if wanted < search.num_candidates:
        print(f"The whole space has {wanted:,} architectures: all of them are candidates.")
    if len(done) < wanted:
        dataset = directory.load_data(location)
        file.write(dataclasses.replace(c, rank=0) for c in done.values())
        _evaluate(directory, supernet, dataset, file, done, wanted)
    best = ranked(done.values())
    file.write(best)
    _print_top(best, directory.path)


def restore_supernet(directory) -> tuple[Supernet, int]:
    """The one-shot model of a run with its final weights, and its number of steps.

    Raises:
        InputError: it isn't trained to the end, or its checkpoint can't be read.
    """
    model = directory.group(settings.ModelSettings, "model")
    steps = directory.group(settings.OneShotSettings, "one_shot").train_steps
    device = directory.group(settings.DeviceSettings, "device")
    checkpoints = Checkpoints(directory.path / "checkpoints")
    reached = max(checkpoints.steps(), default=0)
    if reached < steps:
        raise InputError(
            f"The one-shot model in {directory.path} has a checkpoint of step {reached:,} of "
            f"{steps:,}; train it to the end: python -m oneshot_tf.train "
            f"--flagfile={directory.path}/flags.txt --run_dir={directory.path}."
        )
    classes = len(directory.config()["facts"]["class_names"])
    supernet = Supernet(
        directory.space(), model.num_cells, model.filters, classes, dtype=device.dtype
    )
    try:
        checkpoints.restore_step(steps, supernet.variables)
    except InputError as error:
        raise InputError(
            f"{error} Train again, it goes on from the checkpoint before: python -m "
            f"oneshot_tf.train --flagfile={directory.path}/flags.txt --run_dir={directory.path}."
        ) from None
    return supernet, steps


def _check_same_search(directory, made_with, has_candidates):
    """Candidates of two seeds, or of two trainings, don't go into one file."""
    path = directory.path / "search.json"
    if has_candidates and path.exists():
        before = read_json(path)
        for name, value in made_with.items():
            if before.get(name) != value:
                raise InputError(
                    f"{directory.path / 'candidates.csv'} was made with {name}={before.get(name)}, "
                    f"now it is {name}={value}; give --{name}={before.get(name)} to add to it, or "
                    "move the file away to start anew."
                )
    else:
        write_json(path, made_with)


def _evaluate(directory, supernet, dataset, file, done, wanted):
    """Adds candidates to `done` and to the file until there are `wanted`."""
    ghost_batch_size = directory.group(settings.TrainSettings, "train").ghost_batch_size
    evaluator = CandidateEvaluator(
        supernet, dataset.validation, dataset.normalize, ghost_batch_size
    )
    all_on = evaluator(supernet.space.all_on())
    made_with = read_json(directory.path / "search.json")
    facts = {"all_on_accuracy": all_on.accuracy, "num_images": all_on.num_images}
    write_json(directory.path / "search.json", {**made_with, **facts})
    directory.note_provenance([d.name for d in tf.config.list_logical_devices()])
    print(
        f"All On, with the shared weights: {all_on.accuracy:.4f} on {all_on.num_images:,} "
        "validation images.",
        flush=True,
    )
    space = supernet.space
    net = (supernet.num_cells, supernet.filters, supernet.num_classes)
    proposer = RandomSearch(space, made_with["seed"])
    progress = Progress("search", wanted, "candidates")
    while len(done) < wanted:
        proposed = proposer.propose(_ASK)
        if not proposed:
            break
        new = [a for a in proposed if a not in done][: wanted - len(done)]
        parameters = cost.parameters(space, new, *net)
        multiply_adds = cost.multiply_adds(space, new, *net, dataset.image_size)
        for architecture, *costs in zip(new, parameters.tolist(), multiply_adds.tolist()):
            score = evaluator(architecture)
            candidate = Candidate(
                architecture, score.accuracy, score.cross_entropy, score.num_images, *costs
            )
            file.append(candidate)
            done[architecture] = candidate
            best = max(c.candidate_accuracy for c in done.values())
            progress.update(len(done), f"best {best:.4f}")
        proposer.observe(new, [done[a].candidate_accuracy for a in new])


def _print_top(best, path):
    print("rank  candidate accuracy  parameters  architecture")
    for c in best[:10]:
        print(f"{c.rank:4d}  {c.candidate_accuracy:18.4f}  {c.parameters:10,}  {c.architecture}")
    print(
        f"{len(best):,} candidates are in {path / 'candidates.csv'}. Next: "
        f"python -m oneshot_tf.retrain --run_dir={path}",
        flush=True,
    )


if __name__ == "__main__":
    config.run(main, settings.RunSettings, settings.SearchSettings, settings.LocationSettings)
