"""Parts of the names of units."""


def size_text(side: int, channels: int) -> str:
    """Returns the size of a tensor as text.

    Example:

        >>> size_text(8, 16)
        '8x8x16'
    """
    return f"{side}x{side}x{channels}"
