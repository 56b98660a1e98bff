"""From a user's table to numbers: missing rows, text columns, and what was found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pandas.api import types

from farfield.errors import DataError

MOST_CATEGORIES = 50
LARGEST = 1e290
_TEXT = {"string", "categorical", "boolean", "mixed-integer"}


@dataclass(frozen=True)
class Prepared:
    """A table as numbers.

    Attributes:
        features: One row for each kept row of the table, one column for each feature.
        target: The target of each kept row.
        names: The feature names; a one-hot column is called ``column=value``.
        rows: Position in the table of each kept row.
        duplicate_of: For each kept row the number of its set of exact duplicates, so that
            equal rows have equal numbers.
        frame: The kept rows of the table as they were, with all columns.
        dropped: How many rows had missing values and were dropped.
        encoded: Text columns that became one-hot columns.
        ignored: Columns that are not features.
    """

    features: Float[np.ndarray, "n d"]
    target: Float[np.ndarray, " n"]
    names: tuple[str, ...]
    rows: Int[np.ndarray, " n"]
    duplicate_of: Int[np.ndarray, " n"]
    frame: pd.DataFrame
    dropped: int
    encoded: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def duplicates(self) -> int:
        """How many kept rows repeat an earlier one exactly."""
        return len(self.duplicate_of) - int(self.duplicate_of.max(initial=-1)) - 1


def prepare(
    frame: pd.DataFrame,
    target: str,
    *,
    ignore: Sequence[str] = (),
    not_features: Sequence[str] = (),
) -> Prepared:
    """Turn a table into features and a target.

    Rows with a missing value in any column but the ignored ones are dropped and counted. Numeric
    and boolean columns are taken as they are; text columns become one 0/1 column for each value.

    Args:
        frame: The table.
        target: Name of the numeric column to predict.
        ignore: Columns to leave out altogether, such as an identifier.
        not_features: Columns that must be complete but are not features, such as a group.

    Returns:
        The numbers, and what was done to get them.

    Raises:
        DataError: An absent or repeated column, a target that is not numeric, an infinite value
            or one beyond 1e290, a text column with more than 50 values or of which most are
            numbers, dates or lists, no complete row or no feature.
    """
    frame = named(frame)
    for column in (target, *ignore, *not_features):
        require_column(frame, column)
    used = frame.drop(columns=[column for column in ignore if column != target])
    complete = used.notna().all(axis=1).to_numpy()
    if not complete.any():
        emptiest = used.isna().sum().idxmax()
        raise DataError(
            f"Every row has a missing value (column {emptiest!r} is missing in "
            f"{int(used[emptiest].isna().sum())} of {len(used)} rows); drop that column with "
            f"--ignore {quote(str(emptiest))}, or fill it in."
        )
    used = used[complete].reset_index(drop=True)
    used = plain_numbers(used)
    values = numeric(used, target, "target")
    columns = [c for c in used.columns if c != target and c not in not_features]
    for column in not_features:
        require_plain(used[column])
    parts: list[np.ndarray] = []
    names: list[str] = []
    encoded: list[str] = []
    for column in columns:
        series = used[column]
        if types.is_numeric_dtype(series) or types.is_bool_dtype(series):
            parts.append(numeric(used, column, "column")[:, None])
            names.append(column)
        else:
            dummies = _one_hot(series)
            parts.append(dummies.to_numpy(dtype=float))
            names += [f"{column}={value}" for value in dummies.columns]
            encoded.append(column)
    if not parts:
        raise DataError(f"The table has no feature column besides the target {target!r}.")
    return Prepared(
        features=np.hstack(parts),
        target=values,
        names=tuple(names),
        rows=np.flatnonzero(complete),
        duplicate_of=used.groupby(list(used.columns), sort=False).ngroup().to_numpy(),
        frame=used,
        dropped=int((~complete).sum()),
        encoded=tuple(encoded),
        ignored=tuple(dict.fromkeys([*ignore, *not_features])),
    )


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns have text as names, each another one.

    Raises:
        DataError: Two columns have the same name.
    """
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"The table has more than one column {repeated[0]!r}; rename one of them.")
    return frame


def plain_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without kinds of numbers that NumPy cannot compute with."""
    # Decimals are objects to pandas, and half precision lacks operations.
    numbers = [
        column
        for column in frame.columns
        if types.infer_dtype(frame[column]) == "decimal" or frame[column].dtype == np.float16
    ]
    return frame.astype(dict.fromkeys(numbers, float))


def require_column(frame: pd.DataFrame, column: str) -> None:
    """See that a table has a column.

    Args:
        frame: The table.
        column: The name.

    Raises:
        DataError: It has not; the message lists those that it has.
    """
    if column not in frame.columns:
        known = ", ".join(map(str, frame.columns[:20])) + (
            ", ..." if len(frame.columns) > 20 else ""
        )
        raise DataError(f"The table has no column {column!r}; its columns are {known}.")


def numeric(frame: pd.DataFrame, column: str, what: str) -> Float[np.ndarray, " n"]:
    """The numbers of a column.

    Args:
        frame: A table without missing values in the column.
        column: Its name.
        what: What it is, for the message.

    Raises:
        DataError: It holds something else, infinite values or numbers beyond 1e290.
    """
    series = frame[column]
    if not (types.is_numeric_dtype(series) or types.is_bool_dtype(series)):
        numbers = pd.to_numeric(series, errors="coerce")
        wrong = series[numbers.isna()]
        example = f", for example {wrong.iloc[0]!r}" if len(wrong) else ""
        raise DataError(
            f"The {what} {column!r} is not numeric{example}; it must hold numbers in every row."
        )
    if types.is_complex_dtype(series):
        raise DataError(f"The {what} {column!r} holds complex numbers; only real ones will do.")
    values = series.to_numpy(dtype=float)
    if np.abs(values, where=np.isfinite(values), out=np.zeros_like(values)).max() > LARGEST:
        raise DataError(
            f"The {what} {column!r} holds numbers beyond {LARGEST:g} in size; rescale the column."
        )
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise DataError(
            f"The {what} {column!r} holds {infinite} infinite value{'s' * (infinite > 1)}; "
            "replace or remove these rows."
        )
    return values


def _one_hot(series: pd.Series) -> pd.DataFrame:
    require_plain(series)
    text = series.astype(str)
    found = text.nunique()
    wrong = text[pd.to_numeric(text, errors="coerce").isna()]
    if 0 < len(wrong) < len(text) / 2 and found > 2:
        raise DataError(
            f"The column {series.name!r} is text only because of values such as "
            f"{wrong.iloc[0]!r}, while most are numbers; correct or remove these rows, or leave "
            f"the column out with --ignore {quote(str(series.name))}."
        )
    if found > MOST_CATEGORIES:
        raise DataError(
            f"The text column {series.name!r} has {found} different values (such as "
            f"{text.iloc[0]!r}); at most {MOST_CATEGORIES} can be one-hot encoded. Leave it out "
            f"with --ignore {quote(str(series.name))}, or turn it into numbers."
        )
    return pd.get_dummies(text)


def require_plain(series: pd.Series) -> None:
    """Refuse what is neither numbers nor text, such as dates or lists."""
    if types.is_numeric_dtype(series) or types.is_bool_dtype(series):
        return
    kind = types.infer_dtype(series)
    if kind not in _TEXT:
        raise DataError(
            f"The column {series.name!r} holds values of the kind {kind}, neither numbers nor "
            "text; turn them into numbers, or leave them out with --ignore "
            f"{quote(str(series.name))}."
        )
