"""Curves as SVG, drawn by hand: a live page draws them every few seconds, beside a training."""

import math
from collections.abc import Sequence
from typing import TypeVar

from oneshot_tf.analysis.style import escaped

_WIDTH, _HEIGHT = 480, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 28, 46
_MOST_POINTS = 300  # more would be closer together than pixels

Item = TypeVar("Item")


def curve(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """Returns a curve with axes as the text of an SVG; an empty text for fewer than two points.

    Points that are not finite are left out.

    Args:
        points: Pairs (x, y), with rising x.
        x_label: Name of x, which is below the curve.
        y_label: Name of y, which is above the curve, before the last value.
    """
    known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(known) < 2:
        return ""
    xs, ys = ([p[i] for p in known] for i in (0, 1))
    x_ticks, y_ticks = _ticks(min(0.0, *xs), max(xs), 5), _ticks(min(ys), max(ys), 4)
    x_low, x_high = min(x_ticks[0], min(xs)), max(xs[-1], x_ticks[0] + 1e-9)
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in known)
    last = f"{across(xs[-1]):.1f}' cy='{down(ys[-1]):.1f}"
    grid = [_grid(down(y), f"{y:.6g}") for y in y_ticks]
    marks = [_mark(across(x), _short(x)) for x in x_ticks if x <= x_high]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' "
        "font-family='system-ui, sans-serif' font-size='13' fill='currentColor'>"
        f"<text x='{_LEFT}' y='17' font-weight='600'>{escaped(y_label)}: {ys[-1]:.4g}</text>"
        f"{''.join(grid + marks)}"
        f"<polyline points='{line}' fill='none' stroke='var(--accent, #0072b2)' "
        "stroke-width='2' stroke-linejoin='round'/>"
        f"<circle cx='{last}' r='3.5' fill='var(--accent, #0072b2)'/>"
        f"<text x='{(_LEFT + _WIDTH - _RIGHT) / 2}' y='{_HEIGHT - 6}' text-anchor='middle' "
        f"opacity='0.75'>{escaped(x_label)}</text></svg>"
    )


def thinned(items: Sequence[Item]) -> Sequence[Item]:
    """Returns about 300 of many items, evenly spread, the last one included."""
    step = math.ceil(len(items) / _MOST_POINTS)
    return items if step < 2 else [*items[:-1:step], items[-1]]


def _grid(y: float, text: str) -> str:
    return (
        f"<path d='M{_LEFT} {y:.1f} H{_WIDTH - _RIGHT}' stroke='currentColor' opacity='0.2'/>"
        f"<text x='{_LEFT - 7}' y='{y + 4:.1f}' text-anchor='end' opacity='0.75'>{text}</text>"
    )


def _mark(x: float, text: str) -> str:
    foot = _HEIGHT - _BOTTOM
    return (
        f"<path d='M{x:.1f} {foot} v5' stroke='currentColor' opacity='0.5'/>"
        f"<text x='{x:.1f}' y='{foot + 18}' text-anchor='middle' opacity='0.75'>{text}</text>"
    )


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about `count` round numbers, equally spaced, that enclose a range."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1) / 20, high + (abs(high) or 1) / 20
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * n, 12) for n in range(first, last + 1)]


def _short(value: float) -> str:
    """Returns a number in a few characters, for example 20k or 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.6g}"
