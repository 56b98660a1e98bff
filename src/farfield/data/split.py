"""Which rows are inside the training domain, and which of these train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int
from pandas.api import types

from farfield.data.prepare import Prepared, require_column
from farfield.errors import DataError, SettingsError

FEWEST_ROWS = 10


@dataclass(frozen=True)
class Domains:
    """The two sides of a split.

    Attributes:
        inside: Rows of the training domain.
        outside: Rows out of it.
        rule: The split in words, for example ``F1 below 20000``.
    """

    inside: Int[np.ndarray, " n_in"]
    outside: Int[np.ndarray, " n_out"]
    rule: str


def split_by_threshold(prepared: Prepared, column: str, threshold: float) -> Domains:
    """Rows below a threshold are inside; rows at it or above are outside.

    Args:
        prepared: The table.
        column: A numeric column.
        threshold: The value that separates the sides.

    Returns:
        Both sides.

    Raises:
        DataError: An absent or non-numeric column, or a side with fewer than 10 rows.
        SettingsError: A threshold that is not finite.
    """
    if not np.isfinite(threshold):
        raise SettingsError(f"The threshold is {threshold}; it must be a finite number.")
    require_column(prepared.frame, column)
    series = prepared.frame[column]
    if not types.is_numeric_dtype(series):
        raise DataError(
            f"The split column {column!r} is not numeric; split by a numeric column, or hold out "
            "a group with --group-column and --hold-out."
        )
    values = series.to_numpy(dtype=float)
    below = values < threshold
    hint = f"{column!r} goes from {values.min():.12g} to {values.max():.12g}"
    return _domains(below, f"{column} below {threshold:.12g}", f"threshold {threshold:.12g}", hint)


def split_by_group(prepared: Prepared, column: str, hold_out: Sequence[str]) -> Domains:
    """Rows of the held-out groups are outside, all others inside.

    Args:
        prepared: The table.
        column: The column that names each row's group.
        hold_out: Values of that column; numbers are compared as numbers.

    Returns:
        Both sides.

    Raises:
        DataError: An absent column, a group that does not occur, or a side with fewer than
            10 rows.
    """
    require_column(prepared.frame, column)
    series = prepared.frame[column]
    numeric = types.is_numeric_dtype(series) and not types.is_bool_dtype(series)
    labels = pd.Series([_label(value) for value in series.to_numpy()])
    held = list(dict.fromkeys(_as_number(v, series) if numeric else v for v in hold_out))
    for value in held:
        if value not in set(labels):
            known = ", ".join(sorted(labels.unique())[:20])
            raise DataError(f"{column!r} has no group {value!r}; its groups are {known}.")
    inside = ~labels.isin(held).to_numpy()
    names = " or ".join(held)
    counts = ", ".join(f"{name} has {count}" for name, count in labels.value_counts().items())
    return _domains(inside, f"{column} other than {names}", f"hold-out of {names}", counts)


def train_test_rows(
    prepared: Prepared, rows: Int[np.ndarray, " n"], fraction: float, seed: int
) -> tuple[Int[np.ndarray, " n_train"], Int[np.ndarray, " n_test"]]:
    """Draw the training rows of a domain; exact duplicates stay on one side.

    Sets of duplicate rows are taken in random order as long as they fit, so that the training
    part has ``round(fraction * n)`` rows whenever the sets allow it, and one test row at least.

    Args:
        prepared: The table.
        rows: The rows of the domain.
        fraction: Part of the rows that train.
        seed: Random seed.

    Returns:
        Training rows in random order, and the other rows.

    Raises:
        DataError: All rows are duplicates of each other.
    """
    generator = np.random.default_rng(seed)
    shuffled = rows[generator.permutation(len(rows))]
    sets = pd.Series(prepared.duplicate_of[shuffled])
    sizes = sets.map(sets.value_counts()).to_numpy()
    first = ~sets.duplicated().to_numpy()
    wanted = min(round(fraction * len(rows)), len(rows) - 1)
    chosen: set[int] = set()
    taken = 0
    for number, size in zip(sets.to_numpy()[first], sizes[first], strict=True):
        if taken + size <= wanted:
            chosen.add(int(number))
            taken += int(size)
    train = sets.isin(chosen).to_numpy()
    if not train.any() or train.all():
        raise DataError(
            f"The {len(rows)} rows of the training domain are too few distinct rows to train on "
            "some and test on others."
        )
    return shuffled[train], shuffled[~train]


def _label(value: object) -> str:
    """A group's name; 3 and 3.0 are the same group, and large integers keep their digits."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _as_number(value: str, series: pd.Series) -> str:
    """The name of the group that a number written by the user stands for."""
    try:
        return str(int(value))
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return value
    kind = series.to_numpy().dtype
    # 0.1 in a float32 column is the float32 nearest to 0.1.
    return _label(kind.type(number) if kind.kind == "f" else number)


def _domains(inside: np.ndarray, rule: str, cause: str, hint: str) -> Domains:
    for side, mask in (("inside", inside), ("outside", ~inside)):
        found = int(mask.sum())
        if found < FEWEST_ROWS:
            raise DataError(
                f"The {cause} leaves {found} row{'s' * (found != 1)} {side} the training domain; "
                f"at least {FEWEST_ROWS} are needed on either side ({hint})."
            )
    return Domains(np.flatnonzero(inside), np.flatnonzero(~inside), rule)
