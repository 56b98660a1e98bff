"""The comparison on a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from scipy.spatial.distance import cdist

import farfield as ff
from farfield.data import prepare, split_by_threshold
from farfield.errors import DataError, MissingExtraError, SettingsError, TrainingError
from farfield.studies import tabular
from farfield.studies.tabular import Settings
from farfield.studies.tabular.scores import distances
from oracles import train_alone

SMALL = Settings(
    target="price", split_column="size", threshold=7.0, seeds=2, epochs=20, hidden=(16, 16)
)


def test_network_numbers_are_those_of_one_trained_alone(table: pd.DataFrame) -> None:
    """Split, standardisation, training, prediction and its undoing, redone by hand."""
    result = tabular.run(table, SMALL)
    features = pd.get_dummies(table.drop(columns="price")).astype(float)
    features = features[["size", "colour_blue", "colour_green", "colour_red", "flat"]].to_numpy()
    target = table["price"].to_numpy()
    own = result.predictions.query("variant == 'first' and seed == 1")
    inside = np.flatnonzero(table["size"] < 7.0)
    test = own.query("domain == 'in'")["row"].to_numpy()
    outside = own.query("domain == 'out'")["row"].to_numpy()
    assert np.array_equal(np.sort(outside), np.flatnonzero(table["size"] >= 7.0))
    train = np.setdiff1d(inside, test)
    assert len(train) == round(0.9 * len(inside))
    shift, unit = features[train].mean(0), features[train].std(0)
    unit[unit < 1e-12] = 1.0
    scaled = torch.tensor((features - shift) / unit, dtype=torch.float32)
    middle, spread = target[train].mean(), target[train].std()
    y = torch.tensor((target - middle) / spread, dtype=torch.float32)[:, None]
    network = ff.mlp(5, [16, 16], 1, norm="layer", norm_at="first")
    ff.gaussian_init_(network, generator=torch.Generator().manual_seed(1))
    alone = train_alone(network, scaled[train], y[train], [[torch.arange(len(train))]] * 20, 1e-3)
    rows = np.concatenate([test, outside])
    expected = alone(scaled[rows]).detach().double().numpy()[:, 0] * spread + middle
    # The rows come in another order, so float32 sums round otherwise.
    assert np.allclose(own["prediction"], expected, rtol=1e-3, atol=1e-3)


def test_xgboost_is_xgboost_at_its_defaults(table: pd.DataFrame) -> None:
    result = tabular.run(table, SMALL)
    own = result.predictions.query("variant == 'xgboost' and seed == 0")
    test = own.query("domain == 'in'")["row"].to_numpy()
    train = np.setdiff1d(np.flatnonzero(table["size"] < 7.0), test)
    features = pd.get_dummies(table.drop(columns="price")).astype(float).to_numpy()
    model = xgboost.XGBRegressor(n_estimators=100).fit(features[train], table["price"][train])
    # Columns and rows come in another order, so ties between splits may fall otherwise.
    expected = model.predict(features[own["row"]])
    assert np.corrcoef(own["prediction"], expected)[0, 1] > 0.999


def test_metrics_are_those_of_the_predictions(table: pd.DataFrame) -> None:
    result = tabular.run(table, SMALL)
    assert len(result.metrics) == 5 * 2 * 2
    for row in result.metrics.itertuples():
        own = result.predictions.query(
            f"variant == '{row.variant}' and seed == {row.seed} and domain == '{row.domain}'"
        )
        error = own["prediction"] - own["target"]
        assert row.rows == len(own)
        assert row.rmse == pytest.approx(np.sqrt((error**2).mean()))
        assert row.max_abs_prediction == own["prediction"].abs().max()


def test_groups_are_held_out_and_are_no_feature(table: pd.DataFrame) -> None:
    settings = Settings(
        target="price", group_column="colour", hold_out=("red",), seeds=1, epochs=2, hidden=(4,)
    )
    result = tabular.run(table, settings)
    outside = result.predictions.query("domain == 'out'")["row"].unique()
    assert set(outside) == set(np.flatnonzero(table["colour"] == "red"))
    assert "Columns that are no features: colour." in result.notes
    assert [figure.name for figure in result.story().figures] == [
        "histogram",
        "error-by-distance",
    ]
    # With one hidden layer the places of the norm coincide.
    assert list(result.metrics["variant"].unique()) == ["standard", "first", "xgboost"]


def test_what_was_done_to_the_table_is_told(table: pd.DataFrame) -> None:
    table = pd.concat([table, table.iloc[:5]], ignore_index=True)
    table.loc[7, "colour"] = None
    result = tabular.run(table, SMALL)
    notes = " ".join(result.story().remarks)
    assert "1 row with a missing value was dropped" in notes
    assert "Exact repetitions of an earlier row: 5" in notes
    assert "0/1 columns: colour" in notes
    assert "Constant in the training domain, kept: flat" in notes
    for seed in range(2):
        own = result.predictions.query(f"variant == 'standard' and seed == {seed}")
        test = set(own.query("domain == 'in'")["row"])
        for first in range(5):
            assert (first in test) == (120 + first in test) or table["size"][first] >= 7.0


def test_unequal_training_sizes_train_in_fleets_of_their_own() -> None:
    # All rows come twice but one, which comes once: 90 % of 61 rows cannot always be filled.
    values = np.repeat(np.arange(30.0), [1, *[3] * 15, *[2] * 14])
    table = pd.DataFrame({"a": values, "y": values**2})
    settings = Settings(
        target="y", split_column="a", threshold=20.0, seeds=6, epochs=2, hidden=(4,), xgboost=False
    )
    result = tabular.run(table, settings)
    sizes = result.metrics.query("variant == 'standard' and domain == 'in'")["rows"]
    assert sizes.nunique() > 1
    assert len(sizes) == 6


def test_distance_is_that_of_a_full_search(table: pd.DataFrame) -> None:
    prepared = prepare(table, "price")
    domains = split_by_threshold(prepared, "size", 7.0)
    inside = prepared.features[domains.inside]
    unit = inside.std(0)
    unit[unit == 0] = 1
    expected = cdist(prepared.features[domains.outside] / unit, inside / unit).min(1)
    got = distances(prepared, domains)
    assert np.allclose(got[domains.outside], expected)
    assert (got[domains.inside] == 0).all()


def test_results_do_not_depend_on_being_resumed(table: pd.DataFrame, tmp_path: Path) -> None:
    straight = tabular.run(table, SMALL)
    run = tmp_path / "run"
    tabular.run(table, SMALL, out=run)
    (run / "checkpoints" / "last.pt").unlink()
    (run / "metrics.csv").unlink()
    resumed = tabular.run(table, SMALL, out=run, resume=True)
    pd.testing.assert_frame_equal(straight.metrics, resumed.metrics, check_exact=True)
    pd.testing.assert_frame_equal(straight.predictions, resumed.predictions, check_exact=True)
    table.loc[0, "price"] += 1
    with pytest.raises(SettingsError, match=r"its table \(sha256\) is"):
        tabular.run(table, SMALL, out=run, resume=True)


def test_huge_and_tiny_units_do_not_matter(table: pd.DataFrame) -> None:
    settings = replace(SMALL, xgboost=False)  # XGBoost works in float32, which ends at 3e38
    plain = tabular.run(table, settings)
    with pytest.raises(DataError, match="XGBoost works in float32"):
        tabular.run(table.assign(price=table["price"] * 1e200), SMALL)
    scaled = table.assign(price=table["price"] * 1e200, flat=table["flat"] * 1e-300)
    huge = tabular.run(scaled, settings)
    for metric, unit in (("r2", 1.0), ("rmse", 1e200), ("max_abs_prediction", 1e200)):
        assert np.allclose(huge.metrics[metric], unit * plain.metrics[metric], rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_column": None, "threshold": None}, "Say how to split"),
        ({"group_column": "colour", "hold_out": ("red",)}, "Say how to split"),
        ({"threshold": None}, "go together"),
        ({"split_column": None}, "go together"),
        ({"split_column": None, "threshold": None, "group_column": "colour"}, "go together"),
        ({"split_column": None, "threshold": None, "hold_out": ("red",)}, "go together"),
        ({"target": "size"}, "cannot be the split"),
        ({"ignore": ("price",)}, "nor be ignored"),
        ({"ignore": ("size",)}, "cannot be ignored"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": -2}, "seeds is -2"),
        ({"weight_var": -1.0}, "weight_var is -1"),
        ({"bias_var": float("nan")}, "bias_var is nan"),
        ({"train_fraction": 1.0}, "between 0 and 1"),
        ({"hidden": ()}, "hidden is empty"),
        ({"activation": "rely"}, "'rely' is unknown"),
        ({"xgboost_rounds": 0}, "xgboost_rounds is 0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_that_contradict(change: dict[str, object], message: str) -> None:
    values = {"target": "price", "split_column": "size", "threshold": 7.0, **change}
    with pytest.raises(SettingsError, match=message):
        Settings(**values)  # type: ignore[arg-type]


def test_a_constant_target_is_refused_before_any_folder(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"'flat' is 7 in every row of the training domain"):
        tabular.run(
            table, Settings(target="flat", split_column="size", threshold=7.0), out=tmp_path / "r"
        )
    assert not (tmp_path / "r").exists()


def test_a_column_too_wide_for_float32_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    for column, far in (("wide", 1e25), ("wide", 1e60), ("price", 1e20), ("wide", -1e280)):
        changed = table.assign(**{column: np.where(table["size"] < 7.0, table["size"], far)})
        with pytest.raises(DataError, match=rf"'{column}' goes .*; rescale it"):
            tabular.run(changed, SMALL, out=tmp_path / "run")
    with pytest.raises(DataError, match="XGBoost works in float32"):
        tabular.run(table.assign(flat=1e39), SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_diverging_networks_are_an_error(table: pd.DataFrame) -> None:
    settings = Settings(
        target="price",
        split_column="size",
        threshold=7.0,
        seeds=1,
        epochs=5,
        learning_rate=1e30,
        hidden=(4,),
    )
    with pytest.raises(TrainingError, match="lower the learning rate"):
        tabular.run(table, settings)


@pytest.mark.parametrize(
    ("library", "extra"), [("xgboost", "--no-xgboost"), ("statsmodels", "LOWESS")]
)
def test_missing_extras_are_named_before_any_work(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, library: str, extra: str, tmp_path: Path
) -> None:
    name = {"statsmodels": "statsmodels.nonparametric.smoothers_lowess"}.get(library, library)
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{extra}|farfield\[tabular\]"):
        tabular.run(table, SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_xgboost(table: pd.DataFrame) -> None:
    settings = Settings(
        target="price",
        split_column="size",
        threshold=7.0,
        seeds=2,
        epochs=2,
        hidden=(4, 4),
        xgboost=False,
    )
    result = tabular.run(table, settings)
    assert "xgboost" not in set(result.metrics["variant"])
    assert "XGBoost" not in result.summary().index
