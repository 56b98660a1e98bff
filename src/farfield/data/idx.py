"""Files of bytes in the format of MNIST, as they are or compressed with gzip."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from farfield.errors import DataError

_LARGEST = 2**30  # bytes after decompression; MNIST has 47 million


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of bytes: 0, 0, 8 (bytes), number of dimensions, sizes, values.

    Args:
        path: The file; compressed if its name ends in ``.gz``.
        dimensions: How many it must have.

    Returns:
        The values.

    Raises:
        DataError: The file cannot be read, is larger than 1 GiB, or is not in this format.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}).") from error
    if len(content) > _LARGEST:
        raise DataError(f"{path} holds more than 1 GiB; images of digits are far smaller.")
    begin = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, begin, 4)]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != begin + np.prod(sizes):
        raise DataError(f"{path} is not a file of bytes in the format of MNIST.")
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(sizes)
