"""Another table brought to the features of a prepared one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from farfield.data import encode_new, prepare
from farfield.errors import DataError

TRAIN = pd.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "size": [1.0, 2.0, 3.0, 4.0],
        "colour": ["red", "blue", "red", "green"],
        "flat": [True, False, True, True],
        "y": [0.0, 1.0, 2.0, 3.0],
    }
)


def test_the_same_rows_have_the_same_features_in_any_order_of_columns() -> None:
    prepared = prepare(TRAIN, "y", ignore=["id"])
    for columns in (["y", "flat", "colour", "size", "id"], ["colour", "flat", "size"]):
        new = encode_new(TRAIN[columns].sample(frac=1.0, random_state=1), prepared, "y")
        order = TRAIN.sample(frac=1.0, random_state=1).index
        np.testing.assert_array_equal(new.features, prepared.features[order])
        assert (new.target is None) == ("y" not in columns)
        assert not new.unseen
        assert not new.missing
    assert encode_new(TRAIN.assign(more=1), prepared, "y").unused == ("id", "more")


def test_missing_and_unseen_values_are_listed() -> None:
    prepared = prepare(TRAIN, "y", ignore=["id"])
    new = TRAIN.drop(columns="id").astype({"flat": object, "size": object})
    new.loc[1, "size"] = None
    new.loc[1, "flat"] = None
    new.loc[2, "colour"] = "gold"
    new.loc[3, "y"] = None
    found = encode_new(new, prepared, "y")
    assert found.rows.tolist() == [0, 2, 3]
    assert found.missing == {1: "size, flat"}
    assert found.total == 4
    assert {name: mask.tolist() for name, mask in found.unseen.items()} == {
        "colour": [False, True, False]
    }
    assert found.features[1].tolist() == [3.0, 0.0, 0.0, 0.0, 1.0]
    np.testing.assert_array_equal(found.target, [0.0, 2.0, np.nan])


def test_numbers_that_name_groups_are_found_again() -> None:
    """Text in training because of one word; all numbers, and one missing, in the new table."""
    train = pd.DataFrame({"code": ["1", "x", "x", "y"], "y": [1.0, 2.0, 3.0, 4.0]})
    prepared = prepare(train, "y")
    new = encode_new(pd.DataFrame({"code": [1.0, None, 1.0]}), prepared, "y")
    assert new.features.tolist() == [[1.0, 0.0, 0.0]] * 2


def test_columns_whose_names_begin_alike_are_kept_apart() -> None:
    train = pd.DataFrame({"a": ["p", "q"], "a=p": ["u", "v"], "y": [0.0, 1.0]})
    prepared = prepare(train, "y")
    np.testing.assert_array_equal(encode_new(train, prepared, "y").features, prepared.features)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"colour": ["red"], "flat": [True]}, "no column 'size', a feature of the training table;"),
        ({"flat": [True]}, r"'size'.*\(and 1 more that it lacks\).*--ignore size"),
        ({"size": ["big"], "colour": ["red"], "flat": [True]}, "'size' is not numeric.*'big'"),
        ({"size": [np.inf], "colour": ["red"], "flat": [True]}, "1 infinite value"),
        (
            {"size": [None], "colour": ["red"], "flat": [True]},
            "Every row .* missing value .column 'size'",
        ),
        ({"size": [1], "colour": ["red"], "flat": [True], "y": ["z"]}, "target 'y' is not numeric"),
    ],
)
def test_what_cannot_be_used(new: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_new(pd.DataFrame(new), prepare(TRAIN, "y", ignore=["id"]), "y")
