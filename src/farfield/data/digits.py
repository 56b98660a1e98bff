"""Images of handwritten digits: scikit-learn's, which need no download, or your copy of MNIST."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from farfield.data.idx import read_idx
from farfield.errors import DataError, MissingExtraError

_IMAGES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_LABELS = ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte")
_LARGEST = 2**30  # bytes of an array in an archive


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of digits.

    Attributes:
        images: Grey values from 0 to 1, a row for each image.
        labels: The digits.
        source: Where they come from.
    """

    images: Float32[np.ndarray, "n pixels"]
    labels: Int[np.ndarray, " n"]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of images and labels."""
        content = self.images.tobytes() + self.labels.tobytes()
        return hashlib.sha256(content).hexdigest()


def load_digits(data: Path | str | None = None) -> Digits:
    """Images of digits.

    Args:
        data: A folder with ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` (with or
            without ``.gz``), or an ``.npz`` file with ``x_train`` and ``y_train``: MNIST. Nothing
            in it is executed. By default the 1,797 images of 8 x 8 pixels that scikit-learn has.

    Returns:
        All of them, in the order of the files.

    Raises:
        DataError: The files are not there, or are not what they should be.
        MissingExtraError: Without ``data``, scikit-learn is not installed.

    Source: LeCun, Cortes and Burges, MNIST; Alpaydin and Kaynak (1998), the UCI digits.
    """
    if data is None:
        return _bundled()
    path = Path(data)
    if not path.exists():
        raise DataError(f"There is no {path}; name a folder with MNIST's files or an .npz file.")
    images, labels = _folder(path) if path.is_dir() else _archive(path)
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels):
        raise DataError(
            f"{path} has images of shape {images.shape} and labels of shape {labels.shape}; "
            "they must be (n, height, width) and (n,)."
        )
    if labels.max() > 9:
        raise DataError(f"{path} has the label {labels.max()}; digits go from 0 to 9.")
    flat = images.reshape(len(images), -1).astype(np.float32) / np.float32(255.0)
    return Digits(flat, labels.astype(np.int64), str(path.name))


def _bundled() -> Digits:
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise MissingExtraError(
            "The bundled digits come with scikit-learn, which is not installed; install it with "
            "pip install 'farfield[tabular]', or give MNIST by --data."
        ) from error
    table = load()
    images = table.data.astype(np.float32) / np.float32(16.0)
    return Digits(images, table.target.astype(np.int64), "scikit-learn's digits")


def _folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for names, dimensions in ((_IMAGES, 3), (_LABELS, 1)):
        paths = [folder / f"{name}{ending}" for name in names for ending in ("", ".gz")]
        there = [path for path in paths if path.is_file()]
        if not there:
            raise DataError(f"The folder {folder} holds no {names[0]}, with or without .gz.")
        found.append(read_idx(there[0], dimensions))
    return found[0], found[1]


def _archive(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.file_size > _LARGEST for entry in archive.infolist()):
                raise DataError(f"{path} holds an array of more than 1 GiB; MNIST is far smaller.")
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays["x_train"], arrays["y_train"]
    except KeyError as error:
        raise DataError(f"{path} must hold the arrays x_train and y_train.") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz ({type(error).__name__}).") from error
    except DataError:
        raise
    except ValueError as error:  # NumPy's for pickled objects
        raise DataError(f"{path} holds objects other than numbers, which are not read.") from error
    if any(array.dtype != np.uint8 for array in found):
        kinds = ", ".join(str(array.dtype) for array in found)
        raise DataError(f"{path} has x_train and y_train of {kinds}; both must be bytes (uint8).")
    return found


def balanced(
    labels: Int[np.ndarray, " n"], per_class: int, generator: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """Random rows, as many of each of the ten digits, ordered by digit.

    Args:
        labels: The digits.
        per_class: How many of each.
        generator: Source of randomness.

    Returns:
        Indices.

    Raises:
        DataError: There are fewer of some digit.
    """
    rows = []
    for digit in range(10):
        own = np.flatnonzero(labels == digit)
        if len(own) < per_class:
            raise DataError(
                f"{per_class} images of each digit are needed, but there are {len(own)} of the "
                f"digit {digit}; ask for fewer."
            )
        rows.append(generator.permutation(own)[:per_class])
    return np.concatenate(rows)
