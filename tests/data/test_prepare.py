"""From a table to numbers."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from farfield.data import prepare
from farfield.errors import DataError


def test_numbers_booleans_and_text() -> None:
    frame = pd.DataFrame(
        {
            "a": [1, 2, 3],
            "flag": [True, False, True],
            "kind": ["x", "y", "x"],
            "cat": pd.Categorical(["p", "p", "q"]),
            "dec": [Decimal("1.5"), Decimal("2.5"), Decimal("3.5")],
            "y": [0.1, 0.2, 0.3],
        }
    )
    prepared = prepare(frame, "y")
    assert prepared.names == ("a", "flag", "kind=x", "kind=y", "cat=p", "cat=q", "dec")
    expected = [[1, 1, 1, 0, 1, 0, 1.5], [2, 0, 0, 1, 1, 0, 2.5], [3, 1, 1, 0, 0, 1, 3.5]]
    assert np.array_equal(prepared.features, np.array(expected))
    assert prepared.encoded == ("kind", "cat")
    assert np.array_equal(prepared.target, [0.1, 0.2, 0.3])


def test_rows_with_missing_values_are_dropped_and_counted() -> None:
    frame = pd.DataFrame(
        {"a": [1.0, None, 3.0, 4.0], "t": ["x", "y", None, "x"], "y": [1.0, 2.0, 3.0, None]}
    )
    prepared = prepare(frame, "y")
    assert prepared.dropped == 3
    assert prepared.rows.tolist() == [0]
    # What is missing in an ignored column does not matter.
    assert prepare(frame, "y", ignore=["t"]).dropped == 2


def test_column_names_are_quoted_where_they_are_to_be_copied() -> None:
    frame = pd.DataFrame({"a & b": [None, None], "y": [5.0, 6.0]})
    with pytest.raises(DataError, match="--ignore 'a & b', or fill it in"):
        prepare(frame, "y")


def test_duplicates_share_a_number() -> None:
    frame = pd.DataFrame({"a": [1, 2, 1, 1], "t": ["x", "x", "x", "z"], "y": [5, 6, 5, 5]})
    prepared = prepare(frame, "y")
    assert prepared.duplicates == 1
    numbers = prepared.duplicate_of
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3


def test_a_group_column_is_no_feature() -> None:
    frame = pd.DataFrame({"a": [1, 2], "g": ["u", "v"], "y": [5, 6]})
    prepared = prepare(frame, "y", not_features=["g"])
    assert prepared.names == ("a",)
    assert prepared.ignored == ("g",)
    assert "g" in prepared.frame


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1, 2]}, {}, "no column 'y'; its columns are a"),
        ({"a": [1, 2], "y": [1, 2]}, {"ignore": ["b"]}, "no column 'b'"),
        ({"a": [1, 2], "y": ["1", "big"]}, {}, "target 'y' is not numeric, for example 'big'"),
        ({"a": [1, 2], "y": [1.0, np.inf]}, {}, "target 'y' holds 1 infinite value;"),
        ({"a": [-np.inf, np.inf], "y": [1, 2]}, {}, "column 'a' holds 2 infinite values;"),
        ({"a": [None, None], "y": [1, 2]}, {}, "Every row has a missing value .*--ignore a"),
        ({"y": [1, 2]}, {}, "no feature column"),
        ({"a": [1 + 2j, 1], "y": [1, 2]}, {}, "complex"),
        (
            {"a": pd.to_datetime(["2020-01-01", "2020-01-02"]), "y": [1, 2]},
            {},
            "of the kind datetime64",
        ),
        ({"a": [datetime.date(2020, 1, 1)] * 2, "y": [1, 2]}, {}, "of the kind date"),
        ({"a": [[1], [2]], "y": [1, 2]}, {}, "of the kind mixed"),
        ({"a": [1, 2], "g": [[1], [2]], "y": [1, 2]}, {"not_features": ["g"]}, "kind mixed"),
        ({"a": [*map(str, range(9)), "oops"], "y": range(10)}, {}, "only because of .*'oops'"),
        ({"a": [1e300, 2.0], "y": [1, 2]}, {}, "beyond 1e\\+290"),
        ({"a": [f"id{i}" for i in range(60)], "y": range(60)}, {}, "60 different values"),
    ],
)
def test_what_cannot_be_used(
    columns: dict[str, object], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(pd.DataFrame(columns), "y", **options)


def test_repeated_names_are_refused() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "y"])
    with pytest.raises(DataError, match="more than one column 'a'"):
        prepare(frame, "y")


def test_codes_that_are_numbers_written_as_text_are_categories() -> None:
    frame = pd.DataFrame({"a": pd.Series(["1", "2", "1"], dtype="object"), "y": [1, 2, 3]})
    assert prepare(frame, "y").names == ("a=1", "a=2")


def test_half_precision_becomes_double() -> None:
    frame = pd.DataFrame({"a": np.array([1, 2], np.float16), "y": [1, 2]})
    assert prepare(frame, "y").frame["a"].dtype == np.float64
