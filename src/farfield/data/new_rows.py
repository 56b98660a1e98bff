"""Rows of another table as features of the table that a model was fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from farfield.data.prepare import Prepared, named, numeric, plain_numbers, require_plain
from farfield.errors import DataError


@dataclass(frozen=True)
class NewRows:
    """Rows to predict, as numbers in the columns of a prepared table.

    Attributes:
        features: One row for each row of the table without missing values, one column for each
            feature of the prepared table.
        rows: Position in the table of each.
        target: The target of each, not a number where it is missing; ``None`` without the column.
        unseen: Text values that the prepared table does not have: for each such column, which
            rows of ``features`` have one.
        missing: Names of the empty columns, by the position of a row that is left out.
        unused: Columns of the table that are no features.
        frame: The rows as they were.
    """

    features: Float[np.ndarray, "m d"]
    rows: Int[np.ndarray, " m"]
    target: Float[np.ndarray, " m"] | None
    unseen: dict[str, Bool[np.ndarray, " m"]]
    missing: dict[int, str]
    unused: tuple[str, ...]
    frame: pd.DataFrame

    @property
    def total(self) -> int:
        """How many rows the table has."""
        return len(self.rows) + len(self.missing)


def encode_new(frame: pd.DataFrame, prepared: Prepared, target: str) -> NewRows:
    """Bring another table to the features of a prepared one, column by column, by name.

    The order of columns does not matter, and columns that are no features are left out. Rows in
    which a feature is missing are left out and listed. A text value that the prepared table lacks
    is 0 in all of its column's 0/1 columns, and is listed.

    Args:
        frame: The other table.
        prepared: The table whose features are wanted.
        target: Name of its target, which the other one may lack.

    Returns:
        The numbers, and what was found on the way.

    Raises:
        DataError: A feature's column is absent, is text where it was numbers, holds infinite values
            or numbers beyond 1e290; or no row is complete.

    Example:
        >>> import pandas as pd
        >>> from farfield.data import prepare
        >>> train = prepare(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "t": [0, 1]}), "t")
        >>> encode_new(pd.DataFrame({"b": ["y", "z"], "a": [5, 6]}), train, "t").features.tolist()
        [[5.0, 0.0, 1.0], [6.0, 0.0, 0.0]]
    """
    frame = named(frame)
    columns = [c for c in prepared.frame.columns if c != target and c not in prepared.ignored]
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise DataError(
            f"The new table has no column {absent[0]!r}, a feature of the training table"
            f"{_others(len(absent) - 1)}; add it, or leave it out of training with "
            f"--ignore {quote(absent[0])}."
        )
    empty = frame[columns].isna()
    complete = ~empty.any(axis=1).to_numpy()
    if not complete.any():
        raise DataError(
            f"Every row of the new table has a missing value (column {empty.sum().idxmax()!r} most "
            "often); fill it in."
        )
    used = plain_numbers(frame[complete].reset_index(drop=True).infer_objects())
    parts: list[np.ndarray] = []
    unseen: dict[str, np.ndarray] = {}
    for column in columns:
        if column in prepared.encoded:
            text = _text(used[column])
            known = pd.get_dummies(prepared.frame[column].astype(str)).columns
            values = np.stack([(text == value).to_numpy() for value in known], axis=1).astype(float)
            new = np.logical_not(values.any(axis=1))
            if new.any():
                unseen[column] = new
            parts.append(values)
        else:
            parts.append(numeric(used, column, "new table's column")[:, None])
    return NewRows(
        features=np.hstack(parts),
        rows=np.flatnonzero(complete),
        target=_target(used, target),
        unseen=unseen,
        missing={
            int(row): ", ".join(np.array(columns)[empty.iloc[row].to_numpy()])
            for row in np.flatnonzero(~complete)
        },
        unused=tuple(c for c in frame.columns if c not in columns and c != target),
        frame=used,
    )


def _others(count: int) -> str:
    return f" (and {count} more that it lacks)" if count else ""


def _text(series: pd.Series) -> pd.Series:
    require_plain(series)
    if series.dtype.kind == "f" and (series % 1 == 0).all():
        series = series.astype("int64")  # what whole numbers were before they stood by missing ones
    return series.astype(str)


def _target(used: pd.DataFrame, target: str) -> Float[np.ndarray, " m"] | None:
    if target not in used.columns or used[target].isna().all():
        return None
    values = np.full(len(used), np.nan)
    known = used[target].notna().to_numpy()
    values[known] = numeric(used[known].infer_objects(), target, "new table's target")
    return values
