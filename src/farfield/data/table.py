"""Reading a table from CSV or Parquet."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pandas as pd

from farfield.errors import DataError

_SEPARATORS = (",", ";", "\t", "|")
_PARQUET = {".parquet", ".pq"}


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table with a header line: CSV (comma, semicolon, tab or bar) or Parquet.

    Args:
        path: The file; ``.parquet`` and ``.pq`` are read as Parquet, others as CSV.

    Returns:
        The table with at least one row and one column.

    Raises:
        DataError: The file is missing, unreadable or empty.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no file {path}; give the path of a CSV or Parquet file.")
    if not path.is_file():
        raise DataError(f"{path} is not a file; give the path of a CSV or Parquet file.")
    try:
        frame = pd.read_parquet(path) if path.suffix in _PARQUET else _read_csv(path)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty; it needs a header line and rows.") from error
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as CSV: it is not UTF-8 text.") from error
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors derive from these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise DataError(
            f"{path} cannot be read as {'Parquet' if path.suffix in _PARQUET else 'CSV'}: {reason}"
        ) from error
    if frame.empty:
        raise DataError(f"{path} has a header but no rows.")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        separator = max(_SEPARATORS, key=header.count)
        file.seek(0)
        lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
        filled = (line for line in lines if line)
        names, first = next(filled, []), next(filled, [])
    if len(first) > len(names):
        # pandas would take the first field for an index.
        raise DataError(f"{path} has rows with more fields than its header has names.")
    repeated = [name for name in names if name and names.count(name) > 1]
    if repeated:
        # pandas would make the second of two equal names another one.
        raise DataError(
            f"{path} has more than one column {repeated[0]!r}; rename one of them, or add a "
            "header line if it has none."
        )
    return pd.read_csv(path, sep=separator, skipinitialspace=True)


def digest(frame: pd.DataFrame) -> str:
    """A checksum (sha256) of a table's cells and of the names of its columns."""
    hashes = pd.util.hash_pandas_object(frame.astype(str), index=False).to_numpy()
    found = hashlib.sha256(hashes.tobytes())
    found.update(repr(list(frame.columns)).encode())
    return found.hexdigest()
