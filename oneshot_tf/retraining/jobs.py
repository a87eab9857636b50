"""The stand-alone models of a selection: their training and their scores."""

import gc
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from oneshot_tf.cost.baselines import Baseline
from oneshot_tf.data.dataset import Dataset
from oneshot_tf.devices.distribution import is_chief
from oneshot_tf.evaluation.shared_weights import Answers, score_and_answers
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.final_training import check_final
from oneshot_tf.learning.fitting import fit_standalone
from oneshot_tf.nn.baselines import baseline_model
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.baselines import costs_of
from oneshot_tf.runs.directory import RunDirectory
from oneshot_tf.runs.predictions import write_predictions
from oneshot_tf.runs.results import mean_std, net_seed, num_steps, owner_of
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.stacking import Stack
from oneshot_tf.system.errors import InputError
from oneshot_tf.system.progress import tell


class Jobs:
    """The stand-alone models of one folder. Trains and evaluates them.

    Args:
        directory: The run.
        folder: The folder of the models, RUN_DIR/retrain/NAME.
        dataset: The data set of the run.
        stack: The stack of the models.
        groups: Settings by name: "retrain", "train", "final" and "device".

    Attributes:
        repeats: The numbers of the runs of each architecture.

    Raises:
        InputError: The tools of final training do not fit the data or the number of steps.
    """

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
        self._answers: list[Answers] = []  # of all models, in the order of their scoring

    def run(self, chosen: list[dict[str, Any]]) -> dict[str, Any]:
        """Trains all models, then evaluates them."""
        for index in range(len(chosen)):
            for repeat in self.repeats:
                done = index * len(self.repeats) + self.repeats.index(repeat) + 1
                tell(more=str(len(chosen) * len(self.repeats) - done))
                self.train(chosen, index, repeat)
        return self.evaluate(chosen)

    def train(
        self,
        chosen: list[dict[str, Any]],
        index: int,
        repeat: int,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """Trains one model, or resumes its training.

        Args:
            chosen: All architectures with their facts.
            index: The index of the architecture to train.
            repeat: The number of its run.
            before_write: As in `fit_standalone`.
        """
        architecture = chosen[index]["architecture"]
        part = f"net {index + 1}/{len(chosen)}, run {repeat + 1}/{self.repeats.stop}"
        print(f"{self.retrain.name}: {part}: {architecture}", flush=True)
        tell(part=part, architecture=str(architecture))
        checkpoints = self._checkpoints(index, repeat)
        checkpoints.check_newest_size(self._costs(architecture)["parameters"])
        net, seed = self._net(architecture, repeat)
        fit_standalone(
            net, self.training, self.num_steps, self.train_settings, seed,
            self.folder_of(index, repeat), device=self.device, owner=self._owner(index, repeat),
            final=self.final, before_write=before_write,
        )  # fmt: skip
        gc.collect()

    def evaluate(self, chosen: list[dict[str, Any]]) -> dict[str, Any]:
        """Scores every trained model, and keeps the answers in predictions.npz.

        Only `export` scores test images too, afterwards.
        """
        split = self.dataset.load_test() if self.on_test else self.dataset.validation
        self._answers = []
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
            "predictions": write_predictions(self.folder, self._answers) if is_chief() else None,
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
            self._answers.append(answers)
        accuracies = [score.accuracy for score in scores]
        return {
            **candidate,
            "architecture": str(architecture),
            **self._costs(architecture),
            "folder": [
                str(self.folder_of(index, r).relative_to(self.folder.parent)) for r in self.repeats
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
            self.folder_of(index, repeat) / "checkpoints",
            owner=self._owner(index, repeat),
            num_steps=self.num_steps,
        )

    def folder_of(self, index: int, repeat: int) -> pathlib.Path:
        """Returns the folder of one model."""
        return self.folder / f"net_{index:02d}" / f"run_{repeat}"

    def _owner(self, index: int, repeat: int) -> str | None:
        place = self.folder_of(index, repeat).relative_to(self.folder.parent)
        return owner_of(self.run_id, place)
