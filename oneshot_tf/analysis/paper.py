"""Tables 1 and 2 of Bender et al. 2018, for comparison with the results of a run."""

# (selection, F): millions of parameters and their standard deviation, accuracy in % and its
# standard deviation.
CIFAR10 = {
    ("top", 16): (0.7, 0.1, 94.6, 0.2), ("top", 32): (2.7, 0.3, 95.5, 0.1),
    ("top", 64): (10.4, 1.0, 95.9, 0.2), ("top", 128): (41.3, 4.0, 96.1, 0.2),
    ("small", 16): (0.4, 0.01, 94.6, 0.2), ("small", 32): (1.3, 0.04, 95.6, 0.2),
    ("small", 64): (5.0, 0.2, 96.0, 0.1), ("small", 128): (19.3, 0.6, 96.1, 0.2),
    ("all_on", 16): (1.3, None, 95.0, None), ("all_on", 32): (4.8, None, 95.6, None),
    ("all_on", 64): (18.5, None, 96.0, None), ("all_on", 128): (72.7, None, 96.2, None),
    ("random", 16): (0.5, 0.2, 94.1, 0.5), ("random", 32): (1.7, 0.7, 95.0, 0.5),
    ("random", 64): (6.7, 2.6, 95.6, 0.2), ("random", 128): (26.4, 10.5, 95.8, 0.2),
}  # fmt: skip
IMAGENET = {
    ("top", 16): (3.1, 0.4, 70.1, 0.6), ("top", 24): (6.8, 0.9, 73.8, 0.4),
    ("top", 32): (11.9, 1.5, 75.2, 0.4), ("small", 16): (1.4, 0.4, 67.9, 0.5),
    ("small", 24): (3.0, 0.8, 72.4, 0.4), ("small", 32): (5.1, 1.5, 74.2, 0.3),
    ("random", 16): (2.0, 0.5, 67.9, 1.0), ("random", 24): (4.4, 1.0, 72.2, 0.7),
    ("random", 32): (7.7, 1.9, 74.1, 0.6),
}  # fmt: skip


def row(dataset: str, selection: str, filters: int):
    """Returns the paper's row, or None: (10^6 parameters, their std, accuracy in %, its std)."""
    tables: dict[str, dict] = {"cifar10": CIFAR10, "imagenet2012": IMAGENET}
    table = tables.get(dataset.split(":")[0], {})
    return table.get((selection, filters))
