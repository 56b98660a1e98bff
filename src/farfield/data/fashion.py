"""Fashion-MNIST from the files that Debian's package dataset-fashion-mnist installs."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from farfield.errors import DataError

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where the package of Debian puts the files."""

CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""The classes by their number."""

_IMAGES, _LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@dataclass(frozen=True, eq=False)
class Fashion:
    """Images of clothes.

    Attributes:
        images: Grey values.
        labels: The number of each image's class.
    """

    images: UInt8[np.ndarray, "n 28 28"]
    labels: Int[np.ndarray, " n"]


def load_fashion(folder: Path | str = FASHION_FOLDER) -> Fashion:
    """The 10,000 test images of Fashion-MNIST.

    Args:
        folder: The folder with ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``.

    Returns:
        Images and labels.

    Raises:
        DataError: The files are not there, or are not what they should be.

    Source: Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747; MIT licence.
    """
    folder = Path(folder)
    images, labels = _read(folder / _IMAGES, 3), _read(folder / _LABELS, 1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or labels.max() > 9:
        raise DataError(
            f"The files in {folder} are not those of Fashion-MNIST: images {images.shape}, labels "
            f"{labels.shape}."
        )
    return Fashion(images, labels.astype(np.int64))


def _read(path: Path, dimensions: int) -> np.ndarray:
    """A file in the format of MNIST: 0, 0, 8 (bytes), number of dimensions, sizes, values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"There is no {path}; install Debian's package dataset-fashion-mnist, or name the "
            "folder with its files by --data."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}).") from error
    begin = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, begin, 4)]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != begin + np.prod(sizes):
        raise DataError(f"{path} is not a file of bytes in the format of MNIST.")
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(sizes)
