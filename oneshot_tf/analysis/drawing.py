"""Drawings of architectures: the blocks of a cell, or the layers of a chain."""

from typing import Any
from xml.sax.saxutils import escape

from oneshot_tf.space.architecture import Architecture

_ROW, _BOX_WIDTH, _BOX_HEIGHT, _GAP = 118, 112, 30, 14
_CHAIN_COLUMNS = 8
_JOIN, _OPERATION, _OUTPUT = "#eeeeee", "#ffffff", "#eeeeee"
# Colours of the tensors, in order. A tensor's box or sum and its lines have the same colour.
_SOURCES = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#999999", "#b8a800",
            "#000000", "#7a5195")  # fmt: skip


def draw(architecture: Architecture) -> str:
    """Returns a drawing of an architecture as the text of an SVG."""
    is_cell = bool(architecture.blocks[0].inputs)
    return draw_cell(architecture) if is_cell else draw_chain(architecture)


def draw_chain(architecture: Architecture) -> str:
    """Returns a drawing of a chain as the text of an SVG: its layers from left to right.

    A layer that sums several operations shows them one below the other. A skipped layer is a line.
    """
    column, most = _BOX_WIDTH + 2 * _GAP, max(len(b.operations) for b in architecture.blocks)
    names = [("stem",), *(block.operations for block in architecture.blocks), ("classifier",)]
    rows = -(-len(names) // _CHAIN_COLUMNS)
    row_height = most * (_BOX_HEIGHT + 6) + 40
    columns = min(len(names), _CHAIN_COLUMNS)
    width, height = columns * column + 2 * _GAP, rows * row_height + 20
    shapes, lines = [], []
    for index, operations in enumerate(names):
        row, place = divmod(index, _CHAIN_COLUMNS)
        x, top = 2 * _GAP + _BOX_WIDTH / 2 + place * column, 20 + row * row_height
        middle = top + _BOX_HEIGHT / 2
        start = x - _BOX_WIDTH / 2 - 2 * _GAP if index else x
        lines.append(_line(start, middle, x + _BOX_WIDTH / 2, middle))
        colour = _JOIN if index in (0, len(names) - 1) else _OPERATION
        for number, operation in enumerate(operations):
            if operation != "skip":
                shapes.append(_box(x, top + number * (_BOX_HEIGHT + 6), operation, colour))
        if colour == _OPERATION:
            shapes.append(
                f'<text x="{x:.0f}" y="{top - 5:.0f}" font-size="11" text-anchor="middle">'
                f"layer {index - 1}{' (skip)' if operations == ('skip',) else ''}</text>"
            )
    return _svg(width, height, architecture, lines + shapes)


def draw_cell(architecture: Architecture) -> str:
    """Returns a drawing of a cell as the text of an SVG.

    It shows, from the top, the two inputs, the blocks and the output. Each tensor has its own
    colour. A block concatenates its inputs, applies a 1x1 convolution and then its operations, and
    sums their results (section 3.1). The output is the concatenation of all blocks.
    """
    blocks = architecture.blocks
    most = max(max(len(block.operations) for block in blocks), 2)
    column = _BOX_WIDTH + _GAP
    lane = 26  # width of a lane for the lines that pass by blocks
    left = 30 + lane * (len(blocks) + 2)
    width, middle = left + most * column + 40, left + most * column / 2
    height = 70 + _ROW * len(blocks) * 1.25 + 70
    shapes, lines = [], []
    names = ["prev2", "prev1", *(f"block{b}" for b in range(len(blocks)))]
    lanes = {name: 20 + lane * i for i, name in enumerate(names)}
    colours = dict(zip(names, _SOURCES))
    places: dict[str, tuple[float, float]] = {}
    for i, name in enumerate(names[:2]):
        x = left + column * (i + 0.5) + (most - 2) * column / 2
        places[name] = (x, 20 + _BOX_HEIGHT)
        shapes.append(_box(x, 20, name, colours[name]))

    def read(readers: Any, top: Any):
        """Draws lines from the tensors in `readers` to the left side of a box."""
        for i, name in enumerate(readers):
            y = top + _BOX_HEIGHT * (i + 1) / (len(readers) + 1)
            turn = places[name][1] + 6 + 7 * (name == "prev1")
            end = middle - _BOX_WIDTH / 2
            lines.append(_detour(*places[name], turn, lanes[name], end, y, colours[name]))

    for index, block in enumerate(blocks):
        top = 90 + index * _ROW * 1.25
        shapes.append(_box(middle, top, "concat, 1x1", _JOIN))
        read([name for name in names if name in block.inputs], top)
        row = top + 52
        for i, operation in enumerate(block.operations):
            x = middle + (i - (len(block.operations) - 1) / 2) * column
            shapes.append(_box(x, row, operation, _OPERATION))
            lines.append(_line(middle, top + _BOX_HEIGHT, x, row))
            lines.append(_line(x, row + _BOX_HEIGHT, middle, row + 48))
        shapes.append(_circle(middle, row + 58, "+", colours[f"block{index}"]))
        shapes.append(
            f'<text x="{middle + 20:.0f}" y="{row + 63:.0f}" font-size="12">block{index}</text>'
        )
        places[f"block{index}"] = (middle, row + 68)
    bottom = height - 45
    shapes.append(_box(middle, bottom, "concat: output", _OUTPUT))
    read(names[2:], bottom)
    return _svg(width, height, architecture, lines + shapes)


def _svg(width: float, height: float, architecture: Architecture, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" role="img" font-family="sans-serif">'
        f"<title>{escape(str(architecture))}</title>"
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def _box(x: float, y: float, text: str, colour: str):
    return (
        f'<rect x="{x - _BOX_WIDTH / 2:.0f}" y="{y:.0f}" width="{_BOX_WIDTH}" '
        f'height="{_BOX_HEIGHT}" rx="5" fill="{colour}" stroke="black"/>'
        f'<text x="{x:.0f}" y="{y + 20:.0f}" font-size="13" text-anchor="middle">'
        f"{escape(text)}</text>"
    )


def _circle(x: float, y: float, text: str, colour: str):
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="11" fill="{colour}" stroke="black"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" font-size="15" text-anchor="middle">{text}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float):
    return f'<path d="M{x1:.0f} {y1:.0f} L{x2:.0f} {y2:.0f}" stroke="black" fill="none"/>'


def _detour(x1: float, y1: float, turn: Any, lane: Any, x2: float, y2: float, colour: str):
    """Returns a line that goes down, over to its own lane, down, and in from the left."""
    path = f"M{x1:.0f} {y1:.0f} V{turn:.0f} H{lane:.0f} V{y2:.1f} H{x2 - 6:.0f}"
    return (
        f'<path d="{path}" stroke="{colour}" stroke-width="2" fill="none"/>'
        f'<path d="M{x2:.0f} {y2:.1f} l-8 -4 v8 z" fill="{colour}"/>'
    )
