"""An architecture update: a learner tries masks on held-out images, and learns from the outcome.

The weights stay as they are. As in `TrainStep`, replica r takes the r-th part of the ghost batches
of the global batch, in micro-batches. What comes of them is put together, so every replica gets the
outcome of the whole batch and makes the same update. So neither the number of replicas nor the
number of micro-batches changes the result.
"""

import os
from typing import Any

import tensorflow as tf

from oneshot_tf.learning.batches import Batches
from oneshot_tf.learning.losses import cross_entropy
from oneshot_tf.learning.steps import Prepare, TrainStep
from oneshot_tf.settings import TrainSettings
from oneshot_tf.strategies.protocols import Learner, Outcome
from oneshot_tf.system.errors import InputError


def check_learner(learner: Learner, data: Any, settings: TrainSettings, num_steps: int) -> None:
    """Makes sure that a learner can learn.

    Args:
        learner: The learner.
        data: The data set.
        settings: How weights are trained.
        num_steps: Length of the training.

    Raises:
        InputError: There are fewer validation images than in a batch, or no architecture update
            follows any training step.
    """
    if len(data.validation) < settings.batch_size:
        raise InputError(
            "A strategy that learns the architecture takes batches of validation images, so "
            f"--num_validation must be at least --batch_size={settings.batch_size}; {data.name} "
            f"has {len(data.validation):,}. Hold out more images, for example half of them, or "
            "use a smaller batch."
        )
    if not learner.updates_before(num_steps):
        raise InputError(
            f"No architecture update follows any of the --train_steps={num_steps:,} steps. Train "
            "longer, or begin to learn earlier (--warmup_steps, --phase_steps)."
        )


def check_belongs(learner: Learner, net: Any) -> None:
    """Makes sure that a learner belongs to a one-shot model.

    Raises:
        InputError: The learner is for another space or distribution strategy.
    """
    if learner.space != net.space:
        raise InputError(
            f"The learner must have the search space of the one-shot model; it has "
            f"{learner.space.num_paths} paths, and the model has {net.space.num_paths}. Make it "
            "with the same space."
        )
    scope = tf.distribute.get_strategy().extended
    if not all(scope.variable_created_in_scope(v.value) for v in learner.variables):
        raise InputError(
            "The learner must be made in the scope of the distribution strategy, as the one-shot "
            "model: with strategy.scope(): learner = ..."
        )


def check_intervals(learner: Learner | None, log_steps: int) -> None:
    """Makes sure that the curvature can be logged when it is measured.

    Raises:
        InputError: The interval of the curvature is no multiple of that of the log.
    """
    if learner and learner.curvature_steps % log_steps:
        raise InputError(
            f"--curvature_steps must be a multiple of --log_steps={log_steps}; got "
            f"{learner.curvature_steps}. Change one of them."
        )


class ArchitectureStep:
    """Callable: `metrics = step(images, labels, update)`.

    It takes this worker's part of a batch of held-out images, as `TrainStep` does, and the number
    of the update. `UnrolledStep` also takes the next training batch and the number of its step. It
    returns held_out_loss, held_out_accuracy, and what the learner logs.

    A learner that wants the gradient gets it from dense micro-batches, which compute all paths. For
    scores, a micro-batch is a ghost batch that skips dropped paths.

    Args:
        train: The training step of the weights. It gives the net and the sizes.
        learner: Decides on the masks and learns.
        prepare: As in `TrainStep`, for held-out images.
    """

    def __init__(self, train: TrainStep, learner: Learner, prepare: Prepare):
        self.train, self.learner, self.prepare = train, learner, prepare
        self._scores = learner.wants == "scores"
        self._step = tf.function(self._distributed, autograph=False)
        self._traced = False

    def __call__(self, images: Any, labels: Any, update: int, *train: Any) -> dict[str, tf.Tensor]:
        return self._step(images, labels, tf.constant(update, tf.int32), *train)

    def trace(self, images: Any, labels: Any, *train: Any) -> None:
        """Traces the graph unless it exists. Runs nothing."""
        if not self._traced:
            self._step.get_concrete_function(images, labels, tf.constant(0, tf.int32), *train)
            self._traced = True

    def _distributed(
        self, images: Any, labels: Any, update: tf.Tensor, *train: Any
    ) -> dict[str, tf.Tensor]:
        strategy = self.train.strategy
        per_replica = strategy.run(self._on_replica, args=(images, labels, update, *train))
        # All replicas have the same values.
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, None)
            for name, value in per_replica.items()
        }

    def _on_replica(
        self, images: tf.Tensor, labels: tf.Tensor, update: tf.Tensor, *train: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        share = self.train.batch_size // self.train.replicas
        first = replica() * share
        images = self.prepare(images, first, self.train.batch_size, update)
        ghosts = self.train.batch_size // self.train.ghost_batch_size
        masks = self.learner.trial(ghosts, update, self.train.seed)
        outcome = self._outcome(images, labels, self._own(masks), *train)
        more = self.learner.learn(outcome, update, self.train.seed)
        return {
            "held_out_loss": tf.reduce_mean(outcome.losses),
            "held_out_accuracy": tf.reduce_mean(outcome.accuracies),
            **more,
        }

    def _own(self, masks: tf.Tensor) -> tf.Tensor:
        """Returns the rows of this replica."""
        rows = masks.shape[0] // self.train.replicas
        return tf.slice(masks, [replica() * rows, 0], [rows, masks.shape[1]])

    def _whole(self, own: tf.Tensor) -> tf.Tensor:
        """Returns the rows of all replicas. Each puts its own into zeros, which are added up."""
        rows = own.shape[0]
        places = tf.range(rows * self.train.replicas) - replica() * rows
        inside = ((places >= 0) & (places < rows))[:, tf.newaxis]
        whole = tf.where(inside, tf.gather(own, tf.clip_by_value(places, 0, rows - 1)), 0.0)
        return all_reduce(whole)

    def _outcome(self, images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor) -> Outcome:
        """Returns what comes of the masks of this replica, over the whole batch.

        Args:
            images: Held-out images, float32.
            labels: Their labels.
            masks: `[g, P]`.
        """
        found = self._whole(self._accumulated(images, labels, masks))
        return Outcome(None if self._scores else found[:, 2:], found[:, 0], found[:, 1])

    def _accumulated(self, images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        """Returns what `_micro_batch` finds for all ghost batches of this replica, `[g, .]`."""
        ghosts = masks.shape[0]
        count = ghosts if self._scores else self.train.micro_batches
        if count == 1:
            return self._micro_batch(images, labels, masks)
        images, labels, masks = (
            tf.reshape(x, [count, x.shape[0] // count, *x.shape[1:]])
            for x in (images, labels, masks)
        )
        columns = 2 if self._scores else 2 + masks.shape[-1]
        found = tf.map_fn(
            lambda parts: self._micro_batch(*parts),
            (images, labels, masks),
            fn_output_signature=tf.TensorSpec([ghosts // count, columns], tf.float32),
            parallel_iterations=min(count, os.cpu_count() or 1) if self._scores else 1,
        )
        return tf.reshape(found, [ghosts, columns])

    def _micro_batch(self, images: tf.Tensor, labels: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        """Returns loss, accuracy, and the gradient if wanted, of each ghost batch: `[g, .]`."""
        ghosts, size = masks.shape[0], self.train.ghost_batch_size
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masks)
            logits = self.train.net(images, masks, training=True, skip=self._scores)
            losses = cross_entropy(labels, logits)
            loss = tf.reduce_sum(losses) / self.train.batch_size
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        columns = [
            tf.reduce_mean(tf.reshape(x, [ghosts, size]), axis=1, keepdims=True)
            for x in (losses, tf.cast(hits, tf.float32))
        ]
        if not self._scores:
            columns.append(tf.cast(tape.gradient(loss, masks), tf.float32))
        return tf.concat(columns, axis=1)


def all_reduce(value: Any) -> Any:
    """Returns the sums over all replicas, in the context of a replica."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def replica() -> int | tf.Tensor:
    """Returns the number of this replica, in its context."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group


class Updates:
    """The architecture updates that follow training steps.

    Args:
        step: Makes one update.
        batches: The batches of held-out images, by the number of the update.
        train: The training batches of a learner that unrolls; None for others.
    """

    def __init__(self, step: ArchitectureStep, batches: Batches, train: Batches | None = None):
        self.step, self.learner = step, step.learner
        self._batches, self._train = batches, train

    def numbers(self, step: int) -> range:
        """Returns the numbers of the updates that follow a training step."""
        before = self.learner.updates_before
        return range(before(step), before(step + 1))

    def trace(self, step: int) -> None:
        """Traces the graph if it is needed after a training step, unless it exists."""
        numbers = self.numbers(step)
        if numbers:
            self.step.trace(*self.batch(numbers[0], step), *self._next(step))

    def after(self, step: int) -> list[dict[str, tf.Tensor]]:
        """Makes the updates that follow a training step. Returns their metrics."""
        return [
            self.step(*self.batch(update, step), update, *self._next(step))
            for update in self.numbers(step)
        ]

    def batch(self, update: int, step: int) -> tuple[Any, Any]:
        """Returns this worker's part of the batch of an update that follows a training step."""
        return self._batches.own(update, step)

    def _next(self, step: int) -> tuple[Any, ...]:
        """Returns the next training batch and the number of its step, for unrolling."""
        if self._train is None:
            return ()
        return *self._train.own(step + 1), tf.constant(step + 1, tf.int32)


def means(found: list[dict[str, tf.Tensor]]) -> dict[str, float]:
    """Returns the means of metrics of updates; nothing if there were no updates."""
    names = found[0] if found else ()
    return {name: sum(float(metrics[name]) for metrics in found) / len(found) for name in names}
