"""Counts a search space, draws architectures from it, and counts their costs."""

import numpy as np

import oneshot_tf as ost

space, stack = ost.bender2018(num_blocks=4), ost.Stack(num_cells=6, filters=16)
print(f"{space.num_architectures:,} cells of {space.num_paths} paths")

rng = np.random.default_rng(0)
architectures = [space.sample(rng) for _ in range(5)]
sizes = ost.parameters(space, architectures, stack, 10)
adds = ost.multiply_adds(space, architectures, stack, 10, 32)
for architecture, size, count in zip(architectures, sizes, adds):
    print(f"{size:9,} parameters  {count:13,} multiply-adds  {architecture}")
