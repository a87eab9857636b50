"""What a learner has learnt, for the lines of decisions.jsonl."""

from typing import Any

from oneshot_tf.cost.counts import costs
from oneshot_tf.learning.architecture_steps import Updates
from oneshot_tf.learning.curvature import Curvature


class LearntSoFar:
    """Callable: `line = learnt_so_far(done)`, the decisions after `done` training steps.

    The line has what the learner describes, the cost of the most probable architecture with the
    stack of the one-shot model, and at some steps the dominant eigenvalue of the architecture
    Hessian on the latest batch of held-out images.

    Args:
        net: The one-shot model.
        updates: The architecture updates.
        num_steps: Length of the training.
        image_size: Height and width of images in pixels.
    """

    def __init__(self, net: Any, updates: Updates, num_steps: int, image_size: int):
        self._net, self._updates, self._image_size = net, updates, image_size
        self._num_steps, self._learner = num_steps, updates.learner
        self._curvature = Curvature(updates.step) if self._learner.logits is not None else None

    def __call__(self, done: int) -> dict[str, Any]:
        parameters, multiply_adds = costs(
            self._net.space, [self._learner.mode()], self._net.stack, self._net.num_classes,
            self._image_size,
        )  # fmt: skip
        line = {
            **self._learner.describe(done),
            "parameters": int(parameters[0]),
            "multiply_adds": int(multiply_adds[0]),
        }
        last = self._learner.updates_before(done) - 1
        if self._curvature and self._due(done) and last >= 0:
            line["dominant_eigenvalue"] = self._curvature(
                *self._updates.batch(last, done - 1), last
            )
        return line

    def _due(self, done: int) -> bool:
        every = self._learner.curvature_steps
        return done == self._num_steps or (every > 0 and done % every == 0)
