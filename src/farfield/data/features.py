"""Features of images from a frozen network, kept on disk part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from farfield import files
from farfield.errors import DataError

PART = 1024
"""Images of a part: what an interruption costs at most."""


def cached_features(
    keys: Sequence[str],
    backbone: str,
    extract: Callable[[int, int], np.ndarray],
    cache: Path,
    on_image: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "n d"]:
    """Each image's features: from the disk, where they are, else computed and kept there.

    They are kept under a fingerprint of the images and of the backbone, so that other ones never
    answer for these; every part is a file that is complete or absent, so that an interrupted
    extraction goes on where it stopped.

    Args:
        keys: A checksum for each image.
        backbone: A fingerprint of the network and of how it is given the images.
        extract: Gives the features of the images from a first index up to, not including, a last.
        cache: A folder.
        on_image: Called with the number of images done.

    Returns:
        A row of float32 for each image.

    Raises:
        DataError: A kept part cannot be read.
        OutputError: A part cannot be written.
    """
    mark = hashlib.sha256("\n".join([backbone, *keys]).encode()).hexdigest()[:32]
    folder = cache / mark
    files.make_folder(folder)
    files.remove_unfinished(folder)
    parts = []
    for first in range(0, len(keys), PART):
        last = min(first + PART, len(keys))
        path = folder / f"{first:07d}.npy"
        if not path.exists():
            with files.atomic(path) as temporary:
                np.save(temporary, extract(first, last).astype(np.float32), allow_pickle=False)
        parts.append(_load(path, last - first))
        if on_image is not None:
            on_image(last)
    if len({part.shape[1] for part in parts}) > 1:
        raise DataError(f"The features in {folder} do not fit together; delete that folder.")
    return np.concatenate(parts)


def _load(path: Path, rows: int) -> np.ndarray:
    try:
        part: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The features in {path} cannot be read ({type(error).__name__}); delete that file to "
            "have them computed again."
        ) from error
    if part.ndim != 2 or len(part) != rows or part.dtype != np.float32:
        raise DataError(f"The file {path} does not hold {rows} rows of features; delete it.")
    return part
