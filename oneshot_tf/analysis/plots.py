"""Plots of the report. Each function returns the text of an SVG."""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, ScalarFormatter

from oneshot_tf.system.printable import printable

# Okabe and Ito's colours, which colour-blind readers can tell apart. Each has its own marker.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":")  # for more curves than colours
# More points than this become a bitmap inside the SVG: 100,000 shapes would take 14 MB.
_MOST_SHAPES = 5000
MARKERS = ("o", "s", "^", "D", "v", "P")


def _svg(figure: Any) -> str:
    """Returns the SVG. It has no background, and its black parts have the colour of the text."""
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
        axes.spines[["top", "right"]].set_visible(False)
        legend = axes.get_legend()
        if legend:
            legend.get_frame().set(facecolor="none", edgecolor="none")
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "oneshot_tf", "svg.fonttype": "none"}):
        about = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # links of other sites
        figure.savefig(text, format="svg", metadata=about, bbox_inches="tight", dpi=200)
    svg = text.getvalue()[text.getvalue().index("<svg") :].replace("#000000", "currentColor")
    return svg.replace("<svg ", '<svg fill="currentColor" ', 1)


def _axes():
    figure = Figure(figsize=(5.2, 3.5))
    return figure, figure.subplots()


def _short_numbers(axes: Any) -> None:
    """Writes large numbers on the x axis as 20k or 3M, because long ones would overlap."""
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _literal(name: str) -> str:
    """Returns a name for a label. Dollar signs are escaped, because they would mark mathematics."""
    return printable(name).replace("$", r"\$")


def ranking(groups: Any, x_label: str) -> str:
    """Plots stand-alone accuracy against a predictor (figures 4 and 5, top).

    Args:
        groups: Lists of points (predictor, mean accuracy, accuracies) by name.
        x_label: Label of the predictor.
    """
    figure, axes = _axes()
    for (name, points), colour, marker in zip(groups.items(), COLOURS, MARKERS):
        x, y = np.array([p[0] for p in points]), np.array([p[1] for p in points])
        spread = [np.std(p[2], ddof=1) if len(p[2]) > 1 else 0.0 for p in points]
        axes.errorbar(
            x, y, yerr=spread, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1,
            label=f"{_literal(name)} (n = {len(points)})",
        )  # fmt: skip
    axes.set_xlabel(x_label)
    axes.set_ylabel("stand-alone accuracy\n(mean, bars: standard deviation of runs)")
    axes.grid(alpha=0.3)
    # The legend is below the plot, because inside it would cover points.
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return _svg(figure)


def histogram(groups: Any, x_label: str) -> str:
    """Plots the distribution of candidate accuracies (figure 5, bottom).

    Args:
        groups: Lists of accuracies by name.
        x_label: Label of the accuracies.
    """
    figure, axes = _axes()
    low = min(min(values) for values in groups.values())
    high = max(max(values) for values in groups.values())
    edges = np.linspace(low, high if high > low else low + 1e-3, 31)
    for (name, values), colour in zip(groups.items(), COLOURS):
        axes.hist(
            values, edges, color=colour, alpha=0.8 if len(groups) == 1 else 0.5,
            label=f"{name} (n = {len(values):,})",
        )  # fmt: skip
    axes.set_xlabel(x_label)
    axes.set_ylabel("candidates")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure)


def divergence(values: Any, accuracies: Any) -> str:
    """Plots candidate accuracy against divergence from the references (figure 6)."""
    figure, axes = _axes()
    axes.scatter(
        values, accuracies, s=9, color=COLOURS[0], alpha=0.6,
        rasterized=len(values) > _MOST_SHAPES,
    )  # fmt: skip
    axes.set_xlabel(
        "symmetrised KL divergence from the model\nwith nearly all paths on (nats, training images)"
    )
    axes.set_ylabel("candidate accuracy\n(shared weights, validation images)")
    if min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    return _svg(figure)


def tracked(steps: Any, values: Any, accuracies: Any) -> str:
    """Plots divergences over the training (figure 7).

    Args:
        steps: The steps of the measurements.
        values: Lists of divergences by architecture.
        accuracies: Final candidate accuracies by architecture; None if not measured.
    """
    figure, axes = _axes()
    for i, (name, each) in enumerate(values.items()):
        final = "" if accuracies.get(name) is None else f": {accuracies[name]:.3f}"
        axes.plot(
            steps, each, color=COLOURS[i % 6], linestyle=("-", "--", ":")[i // 6 % 3],
            label=f"architecture {i + 1}{final}",
        )  # fmt: skip
    axes.set_xlabel("steps")
    axes.set_ylabel("symmetrised KL divergence from the\nmodel with nearly all paths on (nats)")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    title = "candidate accuracy at the end"
    axes.legend(
        fontsize=7, title=title, title_fontsize=7, ncols=3,
        loc="upper center", bbox_to_anchor=(0.5, -0.16),
    )  # fmt: skip
    return _svg(figure)


def tuning(points: Any, name: str, y_label: str) -> str:
    """Plots the scores of trials against the tuned value."""
    figure, axes = _axes()
    axes.scatter([p[0] for p in points], [p[1] for p in points], color=COLOURS[0])
    if not any(isinstance(p[0], str) for p in points):
        axes.set_xscale("log")
    axes.set_xlabel(name)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return _svg(figure)


def training(lines: Any, name: str, y_label: str) -> str:
    """Plots a metric of the one-shot model over its training, from lines of metrics.jsonl."""
    figure, axes = _axes()
    axes.plot([line["step"] for line in lines], [line[name] for line in lines], color=COLOURS[0])
    axes.set_xlabel("steps")
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return _svg(figure)


def bands(curves: Any, x_label: str, y_label: str) -> str:
    """Plots the median and the quartiles of several runs.

    Args:
        curves: Arrays `[runs, steps]` by name.
        x_label: Label of the steps, which count from 1.
        y_label: Label of the values.
    """
    figure, axes = _axes()
    for (name, values), colour in zip(curves.items(), COLOURS):
        low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
        steps = np.arange(1, len(middle) + 1)
        axes.plot(steps, middle, color=colour, linewidth=1.5, label=_literal(name))
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return _svg(figure)


def front(
    points: Any,
    front: Any,
    x_label: str,
    y_label: str = "candidate accuracy",
    chosen: tuple[float, float] | None = None,
) -> str:
    """Plots accuracy against cost, and the Pareto front as a line.

    Args:
        points: Pairs (cost, accuracy) of all candidates.
        front: The pairs on the front, with rising cost.
        x_label: Label of the cost.
        y_label: Label of the accuracy.
        chosen: The pair of the chosen net, which is marked. None marks none.
    """
    figure, axes = _axes()
    x, y = zip(*points)
    axes.plot(x, y, ".", color="0.6", markersize=3, rasterized=len(points) > _MOST_SHAPES)
    x, y = zip(*front)
    axes.plot(x, y, "o-", color=COLOURS[0], markersize=5, linewidth=1.5, label="Pareto front")
    if chosen is not None:
        axes.plot(*chosen, "*", color=COLOURS[1], markersize=13, label="the net above")
    axes.set_xlabel(x_label)
    _short_numbers(axes)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return _svg(figure)


def steps(curves: Any, x_label: str, y_label: str) -> str:
    """Plots values that change with each candidate, as steps.

    Args:
        curves: Pairs of arrays (x, y) by name.
        x_label: Label of x.
        y_label: Label of y.
    """
    figure, axes = _axes()
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % 3]
        axes.step(x, y, dashes, where="post", color=colour, linewidth=1.5, label=_literal(name))
    axes.set_xlabel(x_label)
    _short_numbers(axes)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    # Below the plot, because many curves would not fit beside their names.
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return _svg(figure)
