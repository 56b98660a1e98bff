"""Domains and random splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farfield.data import prepare, split_by_group, split_by_threshold, train_test_rows
from farfield.data.prepare import Prepared
from farfield.errors import DataError, SettingsError


def _prepared(values: list[float], groups: list[object] | None = None) -> Prepared:
    frame = pd.DataFrame({"a": values, "y": np.arange(len(values), dtype=float)})
    if groups is not None:
        frame["g"] = groups
    return prepare(frame, "y", not_features=["g"] if groups is not None else [])


def test_a_row_at_the_threshold_is_outside() -> None:
    domains = split_by_threshold(_prepared([*range(30)]), "a", 15.0)
    assert domains.inside.tolist() == list(range(15))
    assert domains.outside.tolist() == list(range(15, 30))
    assert domains.rule == "a below 15"


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (9, "leaves 9 rows inside"),
        (21, "leaves 9 rows outside"),
        (29, "leaves 1 row outside"),
        (-1, "leaves 0 rows inside"),
        (99, r"'a' goes from 0 to 29"),
    ],
)
def test_a_side_with_too_few_rows(threshold: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_by_threshold(_prepared([*range(30)]), "a", float(threshold))


def test_thresholds_that_are_no_numbers() -> None:
    for threshold in (float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="must be a finite number"):
            split_by_threshold(_prepared([*range(30)]), "a", threshold)


def test_split_column_must_be_numeric_and_there() -> None:
    prepared = _prepared([*range(30)], ["x"] * 30)
    with pytest.raises(DataError, match="'g' is not numeric"):
        split_by_threshold(prepared, "g", 3.0)
    with pytest.raises(DataError, match="no column 'b'"):
        split_by_threshold(prepared, "b", 3.0)


def test_groups_by_text_and_by_number() -> None:
    text = _prepared([*range(40)], ["M", "F", "I", "I"] * 10)
    assert split_by_group(text, "g", ["I"]).outside.tolist() == [i for i in range(40) if i % 4 >= 2]
    both = split_by_group(text, "g", ["I", "M"])
    assert both.rule == "g other than I or M"
    assert len(both.inside) == 10
    numbers = _prepared([*range(40)], [1, 2, 3.0, 10_000_001] * 10)
    for name in ("10000001", "10000001.0"):
        assert len(split_by_group(numbers, "g", [name]).outside) == 10


def test_unknown_and_small_groups() -> None:
    prepared = _prepared([*range(40)], ["M", *["F"] * 39])
    with pytest.raises(DataError, match="no group 'X'; its groups are F, M"):
        split_by_group(prepared, "g", ["X"])
    with pytest.raises(DataError, match="leaves 1 row outside"):
        split_by_group(prepared, "g", ["M"])


@settings(max_examples=100, deadline=None)
@given(
    copies=st.lists(st.integers(1, 7), min_size=2, max_size=40),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_duplicates_stay_on_one_side(copies: list[int], fraction: float, seed: int) -> None:
    values = np.repeat(np.arange(len(copies), dtype=float), copies)
    prepared = prepare(pd.DataFrame({"a": values, "y": 2 * values}), "y")
    rows = np.arange(len(values))
    wanted = min(round(fraction * len(values)), len(values) - 1)
    if wanted < min(copies):
        return  # no set fits: refused, tested below
    train, test = train_test_rows(prepared, rows, fraction, seed)
    assert sorted([*train, *test]) == rows.tolist()
    assert not set(values[train]) & set(values[test])
    # Greedy filling stops short by less than the smallest set left over.
    left = min(copies[int(v)] for v in set(values[test]))
    assert wanted - left < len(train) <= wanted


def test_without_duplicates_exactly_ninety_percent_and_random() -> None:
    prepared = _prepared([*range(44591)])
    rows = np.arange(44591)
    train, _ = train_test_rows(prepared, rows, 0.9, 0)
    assert len(train) == 40132  # the paper's number
    again, _ = train_test_rows(prepared, rows, 0.9, 0)
    other, _ = train_test_rows(prepared, rows, 0.9, 1)
    assert np.array_equal(train, again)
    assert not np.array_equal(np.sort(train), np.sort(other))


def test_all_rows_equal_is_an_error() -> None:
    prepared = prepare(pd.DataFrame({"a": [1.0] * 12, "y": [2.0] * 12}), "y")
    with pytest.raises(DataError, match="too few distinct rows"):
        train_test_rows(prepared, np.arange(12), 0.9, 0)


@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_groups_keep_their_digits(kind: type) -> None:
    numbers = [2**53, 2**53 + 1, 2**53 + 2] if kind is np.int64 else [0.1, 0.2, 3.0]
    frame = pd.DataFrame({"a": np.arange(60.0), "y": np.arange(60.0)})
    frame["g"] = np.array(numbers * 20, dtype=kind)
    prepared = prepare(frame, "y", not_features=["g"])
    for index, number in enumerate(numbers):
        domains = split_by_group(prepared, "g", [str(number), str(number)])
        assert domains.outside.tolist() == list(range(index, 60, 3))
        assert " or " not in domains.rule


def test_a_threshold_keeps_its_digits() -> None:
    prepared = _prepared([1_000_000.0 + i for i in range(30)])
    assert split_by_threshold(prepared, "a", 1_000_015.0).rule == "a below 1000015"
