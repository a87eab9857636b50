"""The one-shot model in plain eager PyTorch, to compare speed.

It has the same cells, joins, widths and order of layers as `oneshot_tf.nn` (docs/paper.md,
choices 2 to 5), with channels_last and batch statistics. Python picks the paths of the current
architecture, and only these run. It is not a reference for numbers, because it has its own
weights.
"""

import numpy as np
import torch
import torch.nn.functional as F

from oneshot_tf.space.stacking import Stack

KERNELS = {"sep3x3": 3, "sep5x5": 5, "sep7x7": 7}


class TorchSupernet:
    """Callable: `logits = net(images, mask)`, images float `[B, 3, H, W]`, mask NumPy `[P]`."""

    def __init__(self, space, num_cells, filters, num_classes=10):
        self.space, self.parameters = space, []
        self._rng = np.random.default_rng(0)
        self.stem = self._weight(filters, 3, 3, 3)
        self.plans = Stack(num_cells, filters).plans(space)
        self.cells = [self._cell(plan) for plan in self.plans]
        features = space.num_blocks * self.plans[-1].width
        self.last = self._bias(features)
        self.classifier = self._weight(num_classes, features)

    def _weight(self, *shape):
        value = self._rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        weight = torch.tensor(value, dtype=torch.float32)
        if len(shape) == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.parameters.append(weight.requires_grad_(True))
        return weight

    def _bias(self, channels):
        self.parameters.append(torch.zeros(channels, requires_grad=True))
        return self.parameters[-1]

    def _operation(self, name, c):
        if name in KERNELS:
            k = KERNELS[name]
            return [(self._bias(c), self._weight(c, 1, k, k), self._weight(c, c, 1, 1))
                    for _ in range(2)]  # fmt: skip
        if name == "conv1x7_7x1":
            return [(self._bias(c), self._weight(c, c, *size)) for size in ((1, 7), (7, 1))]
        return name

    def _cell(self, plan):
        space, c = self.space, plan.width
        widths = [i.width for i in plan.inputs] + [c] * (space.num_blocks - 1)
        joins = [
            (self._bias(i.source_width), self._weight(i.width, i.source_width, 1, 1))
            if i.convolved
            else None
            for i in plan.inputs
        ]
        layers = {}
        for block in range(space.num_blocks):
            for i, path in enumerate(space.input_paths(block)):
                layers[path] = self._weight(c, widths[i], 1, 1)
            for name, path in zip(space.operations, space.operation_paths(block)):
                layers[path] = self._operation(name, c)
        return joins, [self._bias(w) for w in widths], layers

    def __call__(self, images, mask):
        prev2 = prev1 = F.conv2d(images, self.stem, padding=1)
        for plan, cell in zip(self.plans, self.cells):
            prev2, prev1 = prev1, self._run(plan, cell, prev2, prev1, mask)
        return bn_relu(prev1, self.last).mean((2, 3)) @ self.classifier.T

    def _run(self, plan, cell, prev2, prev1, mask):
        joins, norms, layers = cell
        reads, read = [prev2, prev1], {}

        def get(i):  # the form in which blocks read tensor i, computed once
            if i not in read:
                x = reads[i]
                if i < 2 and joins[i] is not None:
                    x = F.conv2d(bn_relu(x, joins[i][0]), joins[i][1], stride=plan.inputs[i].stride)
                elif i < 2 and plan.inputs[i].stride > 1:
                    x = F.avg_pool2d(x, plan.inputs[i].stride)
                read[i] = bn_relu(x, norms[i])
            return read[i]

        outputs = []
        size = -(-prev2.shape[2] // plan.inputs[0].stride)
        for block in range(self.space.num_blocks):
            hidden = None
            for i, path in enumerate(self.space.input_paths(block)):
                if mask[path]:
                    y = F.conv2d(get(i), layers[path])
                    hidden = y if hidden is None else hidden + y
            if hidden is None:
                hidden = prev2.new_zeros(len(prev2), plan.width, size, size)
            total = None
            for path in self.space.operation_paths(block):
                if mask[path]:
                    y = run_operation(layers[path], hidden)
                    total = y if total is None else total + y
            outputs.append(torch.zeros_like(hidden) if total is None else total)
            reads.append(outputs[-1])
        return torch.cat(outputs, 1)


def bn_relu(x, offset):
    """Applies batch normalization without scale, and ReLU."""
    return F.relu_(F.batch_norm(x, None, None, None, offset, True, 0.0, 1e-3))


def run_operation(layer, x):
    """Applies one of the seven operations."""
    if layer == "identity":
        return x
    if layer == "max3x3":
        return F.max_pool2d(x, 3, 1, 1)
    if layer == "avg3x3":
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    for offset, *weights in layer:
        x = bn_relu(x, offset)
        for w in weights:
            groups = x.shape[1] if w.shape[1] == 1 else 1
            padding = (w.shape[2] // 2, w.shape[3] // 2)
            x = F.conv2d(x, w, padding=padding, groups=groups)
    return x


def make_work(task, space, cells, filters, size, rows, threads):
    """Returns `work(i)`: an evaluation of one ghost batch of 32, or both passes of a step."""
    torch.set_num_threads(threads)
    net = TorchSupernet(space, cells, filters)
    count = 32 if task == "evaluate" else 32 * rows.shape[1]
    images = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (count,))

    def evaluate(i):
        with torch.inference_mode():
            net(images, rows[i % len(rows), 0]).sum().item()

    def step(i):
        for p in net.parameters:
            p.grad = None
        for g, mask in enumerate(rows[i % len(rows)]):
            part = slice(32 * g, 32 * g + 32)
            F.cross_entropy(net(images[part], mask), labels[part]).backward()

    return evaluate if task == "evaluate" else step
