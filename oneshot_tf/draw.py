"""Draws an architecture as an SVG file.

Example: python -m oneshot_tf.draw "TEXT" cell.svg
"""

import dataclasses

from oneshot_tf.analysis.drawing import draw as draw_architecture
from oneshot_tf.settings import Settings, command_line, setting
from oneshot_tf.space.architecture import Architecture
from oneshot_tf.space.cell_space import OPERATIONS, CellSpace
from oneshot_tf.system.files import write_atomically


@dataclasses.dataclass(frozen=True)
class DrawSettings(Settings):
    """Drawing."""

    architecture: str = setting("", "Architecture to draw, as text.")
    file: str = setting("cell.svg", "SVG file to write.")


def main(draw: DrawSettings) -> None:
    """Draws an architecture."""
    architecture = Architecture.from_text(draw.architecture)
    if architecture.blocks[0].inputs:
        # All On can be drawn, too, although it is not a member of the space.
        CellSpace(len(architecture.blocks), max_operations=len(OPERATIONS)).check(architecture)
    write_atomically(draw.file, lambda file: file.write(draw_architecture(architecture) + "\n"))
    print(f"{architecture} is drawn in {draw.file}.", flush=True)


if __name__ == "__main__":
    command_line.run(main, DrawSettings, positional=("architecture", "file"))
