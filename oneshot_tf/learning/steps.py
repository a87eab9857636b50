"""One optimisation step over the global batch, the same on any number of devices.

The global batch is cut into ghost batches. Replica r takes the r-th run of
them, in turns of at most `device_batch_size` images whose gradients add up.
Ghost batches are independent of each other given their masks, and masks and
augmentation are drawn for the global batch from (seed, step), so neither the
number of replicas nor that of turns changes what is computed.

A turn of a single ghost batch can leave out, forwards and backwards, the paths
that it drops. So there are two graphs of the same step: *skipping*, one ghost
batch a turn, and *dense*, turns as large as fit, everything computed and masked.
"""

import functools
import os

import tensorflow as tf

from oneshot_tf.devices.accelerators import accelerators
from oneshot_tf.learning.losses import cross_entropy, l2_shares, masked_l2
from oneshot_tf.system.errors import InputError


def count_turns(batch_size, ghost_batch_size, device_batch_size, num_replicas) -> int:
    """Into how many turns each replica cuts its share of the global batch.

    Raises:
        InputError: the sizes don't divide.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}.")
    if batch_size % (ghost_batch_size * num_replicas):
        raise InputError(
            f"--batch_size={batch_size}: on {num_replicas} device(s) with --ghost_batch_size="
            f"{ghost_batch_size} it must be a multiple of {ghost_batch_size * num_replicas}; "
            "change it, or use fewer devices (--distribution=auto, or CUDA_VISIBLE_DEVICES=0)."
        )
    ghosts = batch_size // (ghost_batch_size * num_replicas)  # of one replica
    at_once = max(1, min(device_batch_size // ghost_batch_size, ghosts))
    while ghosts % at_once:
        at_once -= 1
    return ghosts // at_once


_MANY_ELEMENTS = 2**18  # measured on both sides of it, in BUILD_NOTES.md


def skipping_pays(kept_share: float, elements: int) -> bool:
    """Whether a step is expected to be faster skipping than dense, on the devices there are.

    Args:
        kept_share: the expected share of paths kept, in [0, 1].
        elements: of a ghost batch in the blocks of the first cell: images * H * W * F.
    """
    if accelerators():
        return False  # many small kernels; not measured
    return kept_share <= (0.9 if elements >= _MANY_ELEMENTS else 0.4)


class TrainStep:
    """Callable: `metrics = step(images, labels, number)`.

    Args:
        net: a `Supernet` (with `sampler`) or a `Standalone` net (without).
        optimizer: a Keras optimizer made in the strategy's scope.
        sampler: gives the masks of each step; None for stand-alone nets.
        prepare: `prepare(images, first, batch_size, step)` gives the normalised,
            augmented float images of rows `first` … of the global batch.
        settings: `TrainSettings`: sizes, weight decay, label smoothing.
        seed: of the masks.
        image_size: height and width of the images.

    The call takes this process's images (uint8) and labels (int32) as given by
    `distribution.local_batch`, and the number of the step. It returns sums over the
    global batch: loss, cross_entropy (mean), l2, accuracy.
    """

    def __init__(self, net, optimizer, sampler, prepare, settings, seed, image_size):
        self.strategy = tf.distribute.get_strategy()
        self.net, self.optimizer, self.sampler, self.prepare = net, optimizer, sampler, prepare
        self.settings, self.seed, self.image_size = settings, seed, image_size
        self.batch_size = settings.batch_size
        self.ghost_batch_size = settings.ghost_batch_size
        self.replicas = self.strategy.num_replicas_in_sync
        self.turns = count_turns(
            self.batch_size, self.ghost_batch_size, settings.device_batch_size, self.replicas
        )
        self.variables = net.trainable_variables
        index = {variable.path: i for i, variable in enumerate(self.variables)}
        self.kernel_index = [index[kernel.path] for kernel in net.kernels]
        self._steps = {
            skip: tf.function(functools.partial(self._distributed, skip), autograph=False)
            for skip in (False, True)
        }
        self._traced = set()

    def __call__(self, images, labels, number: int) -> dict:
        step = self._steps[self.skips(number)]
        return step(images, labels, tf.constant(number, tf.int32))

    def dense(self, images, labels, number):
        """The step, everything computed, as TensorFlow operations: to be compiled elsewhere."""
        return self._distributed(False, images, labels, number)

    def trace(self, images, labels, number: int) -> None:
        """Makes the graph of step `number`, unless it is there; changes nothing."""
        skip = self.skips(number)
        if skip not in self._traced:
            self._steps[skip].get_concrete_function(images, labels, tf.constant(number, tf.int32))
            self._traced.add(skip)

    def skips(self, number: int) -> bool:
        """Whether step `number` leaves out dropped paths."""
        choice = self.settings.skip_paths
        if self.sampler is None or choice == "never":
            return False
        if choice == "always":
            return True
        if not hasattr(self.sampler, "kept_share"):
            return False
        size = -(-self.image_size // self.net.stack.stem_stride)
        elements = self.ghost_batch_size * size**2 * self.net.stack.filters
        return skipping_pays(self.sampler.kept_share(number), elements)

    def _distributed(self, skip, images, labels, number):
        replica_step = functools.partial(self._on_replica, skip)
        per_replica = self.strategy.run(replica_step, args=(images, labels, number))
        reduce = tf.distribute.ReduceOp.SUM
        return {name: self.strategy.reduce(reduce, v, None) for name, v in per_replica.items()}

    def _on_replica(self, skip, images, labels, number):
        """This replica's share of the step, and the update, summed over replicas by Keras."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = self.batch_size // self.replicas
        first = replica * share
        images = self.prepare(images, first, self.batch_size, number)
        masks = self.masks(number)
        if masks is not None:
            rows = share // self.ghost_batch_size
            masks = tf.slice(masks, [replica * rows, 0], [rows, masks.shape[1]])
        turns = masks.shape[0] if skip else self.turns
        gradients, metrics = self._gradients(images, labels, masks, turns, skip, self.replicas)
        self.optimizer.apply(gradients, self.variables)
        return metrics

    def masks(self, number):
        """Those of the global batch of step `number`: `[G, P]`; None for a stand-alone net."""
        if self.sampler is None:
            return None
        return self.sampler.sample(self.batch_size // self.ghost_batch_size, number, self.seed)

    @functools.partial(tf.function, autograph=False)
    def look(self, images, labels, number):
        """What a step would do, on each device for itself, without doing it.

        Args:
            images, labels: the whole global batch.
            number: of the step.

        Returns:
            Its metrics and gradients.
        """
        turns = count_turns(
            self.batch_size, self.ghost_batch_size, self.settings.device_batch_size, num_replicas=1
        )

        def alone(images, labels, number):
            images = self.prepare(images, 0, self.batch_size, number)
            masks = self.masks(number)
            gradients, metrics = self._gradients(images, labels, masks, turns, False, 1)
            return metrics, gradients

        metrics, gradients = self.strategy.run(alone, args=(images, labels, number))
        here = self.strategy.experimental_local_results
        return {name: here(m)[0] for name, m in metrics.items()}, [here(g)[0] for g in gradients]

    def _gradients(self, images, labels, masks, turns, skip, replicas):
        """Of the loss, L2 included, in the order of `variables`; and the metrics."""
        gradients, sums = self._in_turns(images, labels, masks, turns, skip)
        weight_decay = self.settings.weight_decay
        usage = None if masks is None else self.net.usage(masks)
        l2 = masked_l2(self.net.kernels, usage) / replicas
        shares = l2_shares(len(self.kernel_index), usage) * (weight_decay / replicas)
        for index, kernel, share in zip(self.kernel_index, self.net.kernels, tf.unstack(shares)):
            gradients[index] = gradients[index] + share * tf.convert_to_tensor(kernel)
        entropy, correct = sums[0], sums[1]
        loss = entropy + weight_decay * l2
        return gradients, {"loss": loss, "cross_entropy": entropy, "l2": l2, "accuracy": correct}

    def _in_turns(self, images, labels, masks, turns, skip):
        """Gradients and sums of cross-entropy and hits, each divided by the global batch."""
        if turns == 1:
            return self._turn(images, labels, masks, 0, 1, skip)
        images, labels, masks = (
            None if x is None else tf.reshape(x, [turns, x.shape[0] // turns, *x.shape[1:]])
            for x in (images, labels, masks)
        )
        # Zeros, but not as constants: TensorFlow would store them in the graph.
        gradients = [tf.raw_ops.ZerosLike(x=tf.convert_to_tensor(v)) for v in self.variables]

        def body(turn, gradients, sums):
            rows = None if masks is None else masks[turn]
            more, parts = self._turn(images[turn], labels[turn], rows, turn, turns, skip)
            return turn + 1, [a + b for a, b in zip(gradients, more)], sums + parts

        _, gradients, sums = tf.while_loop(
            lambda turn, *_: turn < turns,
            body,
            (0, gradients, tf.zeros([2])),
            # Dense turns are as large as fits; ghost batches are small and go side by side,
            # though their gradients are added in order.
            parallel_iterations=min(turns, os.cpu_count() or 1) if skip else 1,
            maximum_iterations=turns,
        )
        return list(gradients), sums

    def _turn(self, images, labels, masks, turn, turns, skip):
        with tf.GradientTape() as tape:
            if masks is None:
                ghosts = images.shape[0] // self.ghost_batch_size
                turn_of = tf.stack([turn, turns])
                logits = self.net(images, training=True, num_ghosts=ghosts, turn=turn_of)
            else:
                logits = self.net(images, masks, training=True, skip=skip)
            losses = cross_entropy(labels, logits, self.settings.label_smoothing)
            entropy = tf.reduce_sum(losses) / self.batch_size
        gradients = tape.gradient(entropy, [v.value for v in self.variables])
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        accuracy = tf.reduce_sum(tf.cast(hits, tf.float32)) / self.batch_size
        return gradients, tf.stack([entropy, accuracy])
