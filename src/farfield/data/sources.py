"""Published data sets: found in a folder of the user's, else downloaded once, always checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pooch

from farfield.data.table import read_table
from farfield.errors import DataError, MissingExtraError

DATA_VARIABLE = "FARFIELD_DATA"


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        name: File name in the cache and in the user's folder.
        url: The publisher's address.
        sha256: Checksum of the unchanged file.
        other_names: Further file names that are looked for in the user's folder.
        citation: Whom to credit, and the licence.
    """

    name: str
    url: str
    sha256: str
    other_names: tuple[str, ...]
    citation: str


PROTEIN = Source(
    name="protein.csv",
    url="https://archive.ics.uci.edu/ml/machine-learning-databases/00265/CASP.csv",
    sha256="4277cfcb4e91a181746cbc654f001b57951c9e6a80f4f795fdb5c807e0848f40",
    other_names=("CASP.csv",),
    citation=(
        "Physicochemical Properties of Protein Tertiary Structure, P. Rana (2013), "
        "UCI Machine Learning Repository, DOI 10.24432/C5QW3H, CC BY 4.0"
    ),
)

ABALONE = Source(
    name="abalone.csv",
    url="https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data",
    sha256="de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f",
    other_names=("abalone.data",),
    citation=(
        "Abalone, W. Nash, T. Sellers, S. Talbot, A. Cawthorn and W. Ford (1994), "
        "UCI Machine Learning Repository, DOI 10.24432/C55C7W, CC BY 4.0"
    ),
)
_ABALONE_COLUMNS = (
    *("sex", "length", "diameter", "height"),
    *("whole_weight", "shucked_weight", "viscera_weight", "shell_weight", "rings"),
)


def locate(source: Source, folder: Path | str | None = None) -> Path:
    """The path of a published file: the user's own copy, the cache, or a fresh download.

    Args:
        source: The file.
        folder: A folder with the file; else the one that ``FARFIELD_DATA`` names. With
            neither, the file is downloaded to the user's cache.

    Returns:
        The path of a file with the right checksum.

    Raises:
        DataError: The folder lacks the file, its checksum is wrong, or it cannot be downloaded.
    """
    folder = folder or os.environ.get(DATA_VARIABLE) or None
    if folder is not None:
        return _own_copy(source, Path(folder))
    cache = pooch.os_cache("farfield")
    try:
        return Path(
            pooch.retrieve(
                source.url,
                known_hash=f"sha256:{source.sha256}",
                fname=source.name,
                path=cache,
            )
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise DataError(
            f"What {source.url} gave is not the published {source.name}: its sha256 is not "
            f"{source.sha256}. Try again later, or put the file into a folder and name that "
            f"with --data DIR or {DATA_VARIABLE}."
        ) from error
    except OSError as error:  # requests' errors derive from it
        raise DataError(
            f"{source.name} is not in {cache} and cannot be downloaded from {source.url} "
            f"({type(error).__name__}). Put the file into a folder and name that with "
            f"--data DIR or {DATA_VARIABLE}."
        ) from error


def load_protein(folder: Path | str | None = None) -> pd.DataFrame:
    """The protein table (UCI, CASP): 45,730 rows, target ``RMSD``, features ``F1`` to ``F9``.

    Args:
        folder: A folder with ``protein.csv`` or ``CASP.csv``; see :func:`locate`.

    Returns:
        The table, unchanged.

    Raises:
        DataError: See :func:`locate`.

    Source: P. Rana (2013), DOI 10.24432/C5QW3H, CC BY 4.0.
    """
    return read_table(locate(PROTEIN, folder))


def load_abalone(folder: Path | str | None = None) -> pd.DataFrame:
    """The abalone table (UCI): 4,177 shells, target ``rings``; the age in years is rings + 1.5.

    ``sex`` is M, F or I (infant); lengths are in units of 200 mm, weights in units of 200 g.

    Args:
        folder: A folder with ``abalone.csv`` or ``abalone.data``; see :func:`locate`.

    Returns:
        The table, unchanged but for the names of its columns, which the file does not hold.

    Raises:
        DataError: See :func:`locate`.

    Source: Nash, Sellers, Talbot, Cawthorn and Ford (1994), DOI 10.24432/C55C7W, CC BY 4.0.
    """
    # The checksum has been seen to be right, so nothing can be wrong with the rows.
    return pd.read_csv(locate(ABALONE, folder), names=list(_ABALONE_COLUMNS))


def load_diabetes() -> pd.DataFrame:
    """scikit-learn's bundled diabetes table in its original units: 442 patients, ``target``.

    Returns:
        The table: ten features (age, sex, bmi, ...) and disease progression after a year.

    Raises:
        MissingExtraError: scikit-learn is not installed.

    Source: Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression" (2004).
    """
    try:
        from sklearn.datasets import load_diabetes as load
    except ImportError as error:
        raise MissingExtraError(
            "The diabetes table comes with scikit-learn, which is not installed; install it "
            "with: pip install 'farfield[tabular]'"
        ) from error
    frame: pd.DataFrame = load(as_frame=True, scaled=False).frame
    return frame


def _own_copy(source: Source, folder: Path) -> Path:
    names = (source.name, *source.other_names)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; --data and {DATA_VARIABLE} name the folder that holds "
            f"{' or '.join(names)}."
        )
    for path in (folder / name for name in names):
        if path.is_file():
            found = pooch.file_hash(str(path))
            if found != source.sha256:
                raise DataError(
                    f"{path} is not the published file: its sha256 is {found}, expected "
                    f"{source.sha256}. Replace it by the file from {source.url}."
                )
            return path
    raise DataError(
        f"The folder {folder} has no {' or '.join(names)}; get it from {source.url}, or leave "
        f"out --data and unset {DATA_VARIABLE} to have it downloaded."
    )
