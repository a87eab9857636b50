"""Multi-trial search: every candidate is trained from scratch (the first papers on NAS)."""

import dataclasses
import gc
import hashlib
import pathlib
from collections.abc import Callable

from oneshot_tf.cost import counts
from oneshot_tf.devices.distribution import is_chief
from oneshot_tf.evaluation.shared_weights import Score, evaluate_standalone
from oneshot_tf.learning.checkpoints import Checkpoints
from oneshot_tf.learning.fitting import fit_standalone
from oneshot_tf.learning.loop import check_batch_size
from oneshot_tf.nn.standalone import Standalone
from oneshot_tf.runs.results import net_seed, num_steps
from oneshot_tf.searching.job import SearchJob
from oneshot_tf.settings import DeviceSettings, TrainSettings
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.system.files import remove_folder
from oneshot_tf.system.progress import tell

FOLDER = "stand_alone"


def train_all(job: SearchJob) -> None:
    """Trains every candidate on the training images, and scores it on the validation images."""
    trial = Trial(job)
    job.begin()
    progress = job.progress("search")
    for new in job.proposed():
        for architecture in new:
            part = f"Candidate {len(job.done) + 1:,} of {job.wanted:,}"
            print(f"{part}: {architecture}", flush=True)
            tell(part=part)
            score = trial.score(architecture)
            job.add([architecture], [score.accuracy], [score.cross_entropy], [score.num_images])
            trial.clean()
            job.report(progress, f"accuracy {score.accuracy:.4f}, ")


class Trial:
    """Trains and scores one candidate after the other, with the run's settings of training.

    Args:
        job: The search. Its record gets the cost of a candidate.
    """

    def __init__(self, job: SearchJob):
        self.job, directory = job, job.directory
        self.train = directory.group(TrainSettings, "train")
        device = directory.group(DeviceSettings, "device")
        # One candidate whose loss is not finite should not end a search of many.
        self.device = dataclasses.replace(device, threads=0, nan_policy="rollback")
        self.folder = directory.searched / FOLDER
        self.run_id = directory.run_id()
        check_batch_size(self.train, job.dataset)
        self.num_steps = num_steps(
            job.settings.epochs, len(job.dataset.train), self.train.batch_size
        )
        job.record.note(
            num_images=len(job.dataset.validation),
            training_images_per_candidate=self.num_steps * self.train.batch_size,
        )

    def score(
        self, architecture: Architecture, before_write: Callable[[], None] | None = None
    ) -> Score:
        """Trains a candidate, or resumes its training, and scores it.

        Args:
            architecture: The candidate.
            before_write: As in `fit_standalone`.

        Raises:
            InputError: Its loss is not finite, and several rollbacks did not help.
        """
        job = self.job
        seed = net_seed(job.settings.seed, architecture)
        net = Standalone(
            job.space, architecture, job.stack, job.num_classes, seed, self.device.dtype
        )
        folder = self.folder_of(architecture)
        owner = f"{self.run_id}/{job.settings.name}/{architecture}"
        size = counts.parameters(job.space, [architecture], job.stack, job.num_classes)[0]
        Checkpoints(folder / "checkpoints", owner=owner).check_newest_size(int(size))
        fit_standalone(
            net, job.dataset, self.num_steps, self.train, seed, folder,
            device=self.device, owner=owner, before_write=before_write,
        )  # fmt: skip
        return evaluate_standalone(net, job.dataset.validation, job.dataset.normalize)

    def clean(self) -> None:
        """Removes the checkpoints of candidates that are in candidates.csv."""
        if is_chief():
            remove_folder(self.folder)
        gc.collect()

    def folder_of(self, architecture: Architecture) -> pathlib.Path:
        """Returns the folder of the training of a candidate."""
        return self.folder / hashlib.blake2b(str(architecture).encode(), digest_size=8).hexdigest()
