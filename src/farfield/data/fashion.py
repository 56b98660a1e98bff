"""Fashion-MNIST from the files that Debian's package dataset-fashion-mnist installs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from farfield.data.idx import read_idx
from farfield.errors import DataError

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where the package of Debian puts the files."""

CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""The classes by their number."""

_PARTS = {"test": "t10k", "train": "train"}


@dataclass(frozen=True, eq=False)
class Fashion:
    """Images of clothes.

    Attributes:
        images: Grey values.
        labels: The number of each image's class.
    """

    images: UInt8[np.ndarray, "n 28 28"]
    labels: Int[np.ndarray, " n"]


def load_fashion(folder: Path | str = FASHION_FOLDER, part: str = "test") -> Fashion:
    """The 10,000 test images of Fashion-MNIST, or its 60,000 training images.

    Args:
        folder: The folder with ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``,
            or ``train-...`` likewise.
        part: ``"test"`` or ``"train"``.

    Returns:
        Images and labels.

    Raises:
        DataError: The files are not there, or are not what they should be.

    Source: Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747; MIT licence.
    """
    folder, name = Path(folder), _PARTS[part]
    images = _read(folder / f"{name}-images-idx3-ubyte.gz", 3)
    labels = _read(folder / f"{name}-labels-idx1-ubyte.gz", 1)
    if images.shape[1:] != (28, 28) or len(images) != len(labels) or labels.max() > 9:
        raise DataError(
            f"The files in {folder} are not those of Fashion-MNIST: images {images.shape}, labels "
            f"{labels.shape}."
        )
    return Fashion(images, labels.astype(np.int64))


def _read(path: Path, dimensions: int) -> np.ndarray:
    if not path.is_file():
        raise DataError(
            f"There is no {path}; install Debian's package dataset-fashion-mnist, or name the "
            "folder with its files by --data."
        )
    return read_idx(path, dimensions)
