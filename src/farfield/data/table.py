"""Reading a table from CSV or Parquet."""

from __future__ import annotations

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
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors derive from these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise DataError(
            f"{path} cannot be read as {'Parquet' if path.suffix in _PARQUET else 'CSV'}: {reason}"
        ) from error
    if frame.empty:
        raise DataError(f"{path} has a header but no rows.")
    frame.columns = [str(column) for column in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{path} has more than one column {repeated[0]!r}; rename one of them.")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8") as file:
        header = file.readline()
    separator = max(_SEPARATORS, key=header.count)
    frame = pd.read_csv(path, sep=separator, skipinitialspace=True)
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        # pandas takes what the header does not name for an index.
        raise DataError(f"{path} has rows with more fields than its header has names.")
    # pandas would make the second of two equal names another one.
    names = pd.read_csv(path, sep=separator, skipinitialspace=True, header=None, nrows=1, dtype=str)
    frame.columns = [
        written if isinstance(written, str) else made
        for written, made in zip(names.iloc[0], frame.columns, strict=True)
    ]
    return frame
