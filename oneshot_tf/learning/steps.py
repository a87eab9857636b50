"""One training step over the global batch, the same on any number of devices.

The global batch is a run of ghost batches. Replica r takes the r-th part of them, in micro-batches
of at most `device_batch_size` images whose gradients are accumulated. Given their masks, ghost
batches are independent of each other. Masks and augmentation are drawn for the global batch from
(seed, step). So neither the number of replicas nor the number of micro-batches changes the result.

A micro-batch of a single ghost batch can skip the paths that it drops, forwards and backwards. So
there are two graphs of the same step. The *skipping* graph takes one ghost batch per micro-batch.
The *dense* graph takes micro-batches as large as fit, computes all paths and masks them.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from oneshot_tf.devices.accelerators import accelerators
from oneshot_tf.learning.final_training import Tools
from oneshot_tf.learning.losses import cross_entropy, l2_shares, masked_l2
from oneshot_tf.settings import TrainSettings
from oneshot_tf.strategies.protocols import Sampler
from oneshot_tf.system.errors import InputError

Prepare = Callable[[tf.Tensor, Any, int, Any], tf.Tensor]


def count_micro_batches(
    batch_size: int, ghost_batch_size: int, device_batch_size: int, num_replicas: int
) -> int:
    """Returns how many micro-batches each replica cuts its share of the global batch into.

    Args:
        batch_size: Images in the global batch.
        ghost_batch_size: Images in a ghost batch.
        device_batch_size: The most images in a micro-batch.
        num_replicas: Devices that share the batch.

    Raises:
        InputError: The sizes do not divide.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}.")
    if batch_size % (ghost_batch_size * num_replicas):
        raise InputError(
            f"--batch_size must be a multiple of {ghost_batch_size * num_replicas} on "
            f"{num_replicas} device(s) with --ghost_batch_size={ghost_batch_size}; got "
            f"{batch_size}. Change it, or use fewer devices (--distribution=auto, or "
            "CUDA_VISIBLE_DEVICES=0)."
        )
    ghosts = batch_size // (ghost_batch_size * num_replicas)  # of one replica
    at_once = max(1, min(device_batch_size // ghost_batch_size, ghosts))
    while ghosts % at_once:
        at_once -= 1
    return ghosts // at_once


_MANY_ELEMENTS = 2**18  # see docs/performance.md


def skipping_pays(kept_share: float, elements: int) -> bool:
    """Returns whether a skipping step should be faster than a dense one, on these devices.

    Args:
        kept_share: The expected share of paths that the step keeps, in [0, 1].
        elements: Size of a ghost batch in the blocks of the first cell: images * H * W * F.
    """
    if accelerators():
        return False  # many small kernels; not measured
    return kept_share <= (0.9 if elements >= _MANY_ELEMENTS else 0.4)


class TrainStep:
    """Callable: `metrics = step(images, labels, number)`.

    The call takes this worker's images (uint8) and labels (int32), as `distribution.local_batch`
    gives them, and the number of the step. It returns, over the global batch: loss, cross_entropy
    (mean), l2, accuracy.

    Args:
        net: A `Supernet` (with `sampler`) or a `Standalone` model (without).
        optimizer: A Keras optimizer made in the scope of the distribution strategy.
        sampler: Draws the masks of each step; None for stand-alone models.
        prepare: `prepare(images, first, batch_size, step)` returns the normalised, augmented
            float images of rows `first` … of the global batch.
        settings: Sizes, weight decay, label smoothing.
        seed: The seed of the masks.
        image_size: Height and width of the images.
        tools: Class weights, ScheduledDropPath and averages of the weights; None for none. With
            class weights, loss and cross_entropy are weighted.
    """

    def __init__(
        self,
        net: Any,
        optimizer: keras.Optimizer,
        sampler: Sampler | None,
        prepare: Prepare,
        settings: TrainSettings,
        seed: int,
        image_size: int,
        *,
        tools: Tools | None = None,
    ):
        self.tools = tools or Tools()
        self.strategy = tf.distribute.get_strategy()
        self.net, self.optimizer, self.sampler, self.prepare = net, optimizer, sampler, prepare
        self.settings, self.seed, self.image_size = settings, seed, image_size
        self.batch_size = settings.batch_size
        self.ghost_batch_size = settings.ghost_batch_size
        self.replicas = self.strategy.num_replicas_in_sync
        self.micro_batches = count_micro_batches(
            self.batch_size, self.ghost_batch_size, settings.device_batch_size, self.replicas
        )
        self.variables = net.trainable_variables
        index = {variable.path: i for i, variable in enumerate(self.variables)}
        self.kernel_index = [index[kernel.path] for kernel in net.kernels]
        self._steps = {
            skip: tf.function(functools.partial(self._distributed, skip), autograph=False)
            for skip in (False, True)
        }
        self._traced: set[bool] = set()

    def __call__(self, images: Any, labels: Any, number: int) -> dict[str, tf.Tensor]:
        step = self._steps[self.skips(number)]
        return step(images, labels, tf.constant(number, tf.int32))

    def dense(self, images: Any, labels: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the dense step as TensorFlow operations, to compile them elsewhere."""
        return self._distributed(False, images, labels, number)

    def trace(self, images: Any, labels: Any, number: int) -> None:
        """Traces the graph of step `number` unless it exists. Runs nothing."""
        skip = self.skips(number)
        if skip not in self._traced:
            self._steps[skip].get_concrete_function(images, labels, tf.constant(number, tf.int32))
            self._traced.add(skip)

    def skips(self, number: int) -> bool:
        """Returns whether step `number` skips dropped paths."""
        choice = self.settings.skip_paths
        if self.sampler is None or choice == "never":
            return False
        if choice == "always":
            return True
        size = -(-self.image_size // self.net.stack.stem_stride)
        elements = self.ghost_batch_size * size**2 * self.net.stack.filters
        return skipping_pays(self.sampler.kept_share(number), elements)

    def _distributed(
        self, skip: bool, images: Any, labels: Any, number: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        replica_step = functools.partial(self._on_replica, skip)
        per_replica = self.strategy.run(replica_step, args=(images, labels, number))
        reduce = tf.distribute.ReduceOp.SUM
        return {name: self.strategy.reduce(reduce, v, None) for name, v in per_replica.items()}

    def _on_replica(
        self, skip: bool, images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Computes this replica's share of the step. Keras sums the update over replicas."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = self.batch_size // self.replicas
        first = replica * share
        images = self.prepare(images, first, self.batch_size, number)
        masks = self.masks(number)
        if masks is not None:
            rows = share // self.ghost_batch_size
            masks = tf.slice(masks, [replica * rows, 0], [rows, masks.shape[1]])
        factors = self.path_factors(number)
        if factors is not None:
            factors = tf.slice(factors, [first, 0], [share, factors.shape[1]])
        micro_batches = masks.shape[0] if skip and masks is not None else self.micro_batches
        gradients, metrics = self.gradients(
            images, labels, masks, factors, micro_batches, skip, self.replicas
        )
        if self.settings.global_clipnorm:
            gradients = _clipped(gradients, self.settings.global_clipnorm, self.replicas)
        self.optimizer.apply(gradients, self.variables)
        if self.tools.averages:
            self.tools.averages.update(number)
        return metrics

    def masks(self, number: tf.Tensor) -> tf.Tensor | None:
        """Returns the masks of the global batch of a step, `[G, P]`; None without a sampler."""
        if self.sampler is None:
            return None
        return self.sampler.sample(self.batch_size // self.ghost_batch_size, number, self.seed)

    def path_factors(self, number: tf.Tensor) -> tf.Tensor | None:
        """Returns the factors of the paths of a stand-alone model, `[B, n]`; None to drop none."""
        drop_path = self.tools.drop_path
        return drop_path.factors(self.batch_size, number) if drop_path else None

    @functools.partial(tf.function, autograph=False)
    def inspect(
        self, images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Returns the metrics and gradients of a step, without an update.

        Every device computes the whole global batch.

        Args:
            images, labels: The whole global batch.
            number: The number of the step.
        """
        micro_batches = count_micro_batches(
            self.batch_size, self.ghost_batch_size, self.settings.device_batch_size, num_replicas=1
        )

        def alone(images: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> Any:
            images = self.prepare(images, 0, self.batch_size, number)
            masks, factors = self.masks(number), self.path_factors(number)
            gradients, metrics = self.gradients(
                images, labels, masks, factors, micro_batches, False, 1
            )
            return metrics, gradients

        metrics, gradients = self.strategy.run(alone, args=(images, labels, number))
        here = self.strategy.experimental_local_results
        return {name: here(m)[0] for name, m in metrics.items()}, [here(g)[0] for g in gradients]

    def gradients(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor | None,
        factors: tf.Tensor | None,
        micro_batches: int,
        skip: bool,
        replicas: int,
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Returns this replica's part of the gradients, L2 included, by variable; and the metrics.

        Args:
            images: Normalised, augmented images, float32.
            labels: Their labels.
            masks: The rows of masks of these images, or None.
            factors: The factors of paths of these images, or None.
            micro_batches: The number of micro-batches.
            skip: Whether to skip dropped paths.
            replicas: The number of replicas that share the L2.
        """
        gradients, sums = self._accumulated(images, labels, masks, factors, micro_batches, skip)
        weight_decay = self.settings.weight_decay
        usage = None if masks is None else self.net.usage(masks)
        l2 = masked_l2(self.net.kernels, usage) / replicas
        shares = l2_shares(len(self.kernel_index), usage) * (weight_decay / replicas)
        for index, kernel, share in zip(self.kernel_index, self.net.kernels, tf.unstack(shares)):
            gradients[index] = gradients[index] + share * tf.convert_to_tensor(kernel)
        entropy, correct = sums[0], sums[1]
        loss = entropy + weight_decay * l2
        return gradients, {"loss": loss, "cross_entropy": entropy, "l2": l2, "accuracy": correct}

    def _accumulated(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor | None,
        factors: tf.Tensor | None,
        micro_batches: int,
        skip: bool,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns gradients, and sums of cross-entropy and hits, over all micro-batches.

        All are divided by the size of the global batch.
        """
        count = micro_batches
        if count == 1:
            return self._micro_batch(images, labels, masks, factors, 0, 1, skip)
        images, labels, masks, factors = (
            None if x is None else tf.reshape(x, [count, x.shape[0] // count, *x.shape[1:]])
            for x in (images, labels, masks, factors)
        )
        # Zeros, but not as constants: TensorFlow would store them in the graph.
        gradients = [tf.raw_ops.ZerosLike(x=tf.convert_to_tensor(v)) for v in self.variables]

        def body(index: tf.Tensor, gradients: list[tf.Tensor], sums: tf.Tensor) -> Any:
            rows, dropped = (None if x is None else x[index] for x in (masks, factors))
            more, parts = self._micro_batch(
                images[index], labels[index], rows, dropped, index, count, skip
            )
            return index + 1, [a + b for a, b in zip(gradients, more)], sums + parts

        _, gradients, sums = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (0, gradients, tf.zeros([2])),
            # Dense micro-batches are as large as fits. Ghost batches are small and run side by
            # side, though their gradients are added in order.
            parallel_iterations=min(count, os.cpu_count() or 1) if skip else 1,
            maximum_iterations=count,
        )
        return list(gradients), sums

    def _micro_batch(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        masks: tf.Tensor | None,
        factors: tf.Tensor | None,
        index: int | tf.Tensor,
        count: int,
        skip: bool,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns gradients and sums of one micro-batch, the `index`-th of `count`."""
        with tf.GradientTape() as tape:
            if masks is None:
                ghosts = images.shape[0] // self.ghost_batch_size
                micro_batch = tf.stack([index, count])
                more = {} if factors is None else {"path_factors": factors}
                logits = self.net(
                    images, training=True, num_ghosts=ghosts, micro_batch=micro_batch, **more
                )
            else:
                logits = self.net(images, masks, training=True, skip=skip)
            losses = cross_entropy(labels, logits, self.settings.label_smoothing)
            if self.tools.class_weights is not None:
                losses *= tf.gather(self.tools.class_weights, labels)
            entropy = tf.reduce_sum(losses) / self.batch_size
        gradients = tape.gradient(entropy, [v.value for v in self.variables])
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        accuracy = tf.reduce_sum(tf.cast(hits, tf.float32)) / self.batch_size
        return gradients, tf.stack([entropy, accuracy])


def _clipped(gradients: list[tf.Tensor], largest: float, replicas: int) -> list[tf.Tensor]:
    """Scales this replica's part of the gradients, so that the norm of the sum has a limit.

    Keras's optimizers clip before they add up the parts of all replicas.
    """
    whole = gradients
    if replicas > 1:
        context = tf.distribute.get_replica_context()
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    factor = largest / tf.maximum(tf.linalg.global_norm(whole), largest)
    return [gradient * factor for gradient in gradients]
