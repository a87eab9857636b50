"""Trains a tiny one-shot model on digits for a few steps and scores two architectures with it."""

import oneshot_tf as ost

data = ost.load_data("digits", num_validation=200)
space, stack = ost.bender2018(num_blocks=2), ost.Stack(num_cells=1, filters=4)
supernet = ost.Supernet(space, stack, num_classes=10)
settings = ost.TrainSettings(batch_size=64, augmentation="none")
ost.fit_supernet(supernet, data, ost.PathDropout(space, 0.1, num_steps=4), 4, settings)

cells = [
    ost.Architecture.from_text("prev1:sep3x3 | block0:max3x3"),
    ost.Architecture.from_text("prev1+prev2:identity | block0+prev1:avg3x3"),
]
for cell, score in zip(cells, ost.evaluate(supernet, cells, data)):
    print(f"{score.accuracy:.3f}  {cell}")
