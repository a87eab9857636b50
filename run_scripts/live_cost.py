"""Measures how long one new version of the live page takes, for several lengths of curves.

Example: python run_scripts/live_cost.py --times=60
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

from oneshot_tf.analysis.live import LivePage
from oneshot_tf.system.progress import Progress

CELL = (
    "prev1+prev2:sep3x3+identity | block0:max3x3 | block0+prev2:sep5x5 | "
    "block1+block2:avg3x3+sep3x3"
)


def page(folder: pathlib.Path, points: int) -> LivePage:
    """Returns a page with two curves and the drawing of a cell of four blocks."""
    with open(os.devnull, "w") as nowhere:
        progress = Progress("one-shot training", 50 * points, "steps", stream=nowhere)
        for number in range(points):
            progress.point(50 * number, loss=1 / (1 + number), accuracy=0.5)
        progress.update(1)
    found = LivePage(folder / "live.html", "run", "train")
    found.told({"architecture": CELL, "about": "The best candidate so far"})
    found.progress(progress)
    return found


def main() -> None:
    """Prints the least, the median and the largest time by the number of points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=60, help="Versions to write of each page.")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        for points in (200, 2000, 20000):
            written, taken = page(pathlib.Path(folder), points), []
            for _ in range(times):
                start = time.perf_counter()
                written.write()
                taken.append(1e3 * (time.perf_counter() - start))
            size = (pathlib.Path(folder) / "live.html").stat().st_size
            print(
                f"{points:6,} points, {size:,} bytes: median {statistics.median(taken):.1f} ms "
                f"({min(taken):.1f} to {max(taken):.1f}, n = {times})"
            )


if __name__ == "__main__":
    main()
