"""One optimisation step over the global batch, the same on any number of devices.

The global batch is cut into ghost batches. Replica r takes the r-th run of
them, in turns of at most `device_batch_size` images whose gradients add up.
Ghost batches are independent of each other given their masks, and masks and
augmentation are drawn for the global batch from (seed, step), so neither the
number of replicas nor that of turns changes what is computed.
"""

import tensorflow as tf

from oneshot_tf.errors import InputError
from oneshot_tf.learning.losses import cross_entropy, masked_l2


def count_turns(batch_size, ghost_batch_size, device_batch_size, num_replicas) -> int:
    """Into how many turns each replica cuts its share of the global batch.

    Raises:
        InputError: the sizes don't divide.
    """
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

    The call takes this process's images (uint8) and labels (int32) as given by
    `distribution.local_batch`, and the number of the step. It returns sums over the
    global batch: loss, cross_entropy (mean), l2, accuracy.
    """

    def __init__(self, net, optimizer, sampler, prepare, settings, seed):
        self.strategy = tf.distribute.get_strategy()
        self.net, self.optimizer, self.sampler, self.prepare = net, optimizer, sampler, prepare
        self.settings, self.seed = settings, seed
        self.batch_size = settings.batch_size
        self.ghost_batch_size = settings.ghost_batch_size
        self.replicas = self.strategy.num_replicas_in_sync
        self.turns = count_turns(
            self.batch_size, self.ghost_batch_size, settings.device_batch_size, self.replicas
        )
        self.variables = net.trainable_variables
        index = {variable.path: i for i, variable in enumerate(self.variables)}
        self.kernel_index = [index[kernel.path] for kernel in net.kernels]
        self._step = tf.function(self._distributed)

    def __call__(self, images, labels, number: int) -> dict:
        return self._step(images, labels, tf.constant(number, tf.int32))

    def _distributed(self, images, labels, number):
        per_replica = self.strategy.run(self._on_replica, args=(images, labels, number))
        reduce = tf.distribute.ReduceOp.SUM
        return {name: self.strategy.reduce(reduce, v, None) for name, v in per_replica.items()}

    def _on_replica(self, images, labels, number):
        """This replica's share of the step, and the update, summed over replicas by Keras."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = self.batch_size // self.replicas
        first = replica * share
        images = self.prepare(images, first, self.batch_size, number)
        masks = None
        if self.sampler is not None:
            masks = self.sampler.sample(self.batch_size // self.ghost_batch_size, number, self.seed)
            rows = share // self.ghost_batch_size
            masks = tf.slice(masks, [replica * rows, 0], [rows, masks.shape[1]])
        gradients, sums = self._in_turns(images, labels, masks)
        l2, l2_gradients = self._l2(masks)
        weight_decay = self.settings.weight_decay
        for index, gradient in zip(self.kernel_index, l2_gradients):
            gradients[index] = gradients[index] + weight_decay * gradient
        self.optimizer.apply(gradients, self.variables)
        entropy, correct = sums[0], sums[1]
        return {
            "loss": entropy + weight_decay * l2,
            "cross_entropy": entropy,
            "l2": l2,
            "accuracy": correct,
        }

    def _in_turns(self, images, labels, masks):
        """Gradients and sums of cross-entropy and hits, each divided by the global batch."""
        if self.turns == 1:
            return self._turn(images, labels, masks, 0)
        images, labels, masks = (
            None
            if x is None
            else tf.reshape(x, [self.turns, x.shape[0] // self.turns, *x.shape[1:]])
            for x in (images, labels, masks)
        )
        gradients = [tf.zeros(v.shape) for v in self.variables]

        def body(turn, gradients, sums):
            rows = None if masks is None else masks[turn]
            more, parts = self._turn(images[turn], labels[turn], rows, turn)
            return turn + 1, [a + b for a, b in zip(gradients, more)], sums + parts

        _, gradients, sums = tf.while_loop(
            lambda turn, *_: turn < self.turns,
            body,
            (0, gradients, tf.zeros([2])),
            parallel_iterations=1,
            maximum_iterations=self.turns,
        )
        return list(gradients), sums

    def _turn(self, images, labels, masks, turn):
        with tf.GradientTape() as tape:
            if masks is None:
                ghosts = images.shape[0] // self.ghost_batch_size
                turns = tf.stack([turn, self.turns])
                logits = self.net(images, training=True, num_ghosts=ghosts, turn=turns)
            else:
                logits = self.net(images, masks, training=True)
            losses = cross_entropy(labels, logits, self.settings.label_smoothing)
            entropy = tf.reduce_sum(losses) / self.batch_size
        gradients = tape.gradient(entropy, [v.value for v in self.variables])
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        accuracy = tf.reduce_sum(tf.cast(hits, tf.float32)) / self.batch_size
        return gradients, tf.stack([entropy, accuracy])

    def _l2(self, masks):
        """This replica's share of masked L2, and its gradients."""
        usage = None if masks is None else self.net.usage(masks)
        with tf.GradientTape() as tape:
            l2 = masked_l2(self.net.kernels, usage) / self.replicas
        return l2, tape.gradient(l2, [k.value for k in self.net.kernels])
