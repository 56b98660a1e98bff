"""`farfield regress`: predictions against plain linear algebra, what is written, bad input."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import farfield as ff
from farfield.errors import SettingsError, SingularKernelError
from farfield.studies import regression
from farfield.studies.regression import Settings, memory, run
from farfield.studies.regression.fit import RIDGES

COLUMNS = [
    *("row", "target", "prediction", "std", "lower", "upper", "outside", "outside_by"),
    *("distance", "limit", "limit_degree", "note"),
]


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(7)
    size, age = generator.uniform(0, 10, 40), generator.normal(50, 9, 40)
    train = pd.DataFrame({"size": size, "age": age, "price": 100 + 3 * size - age})
    new = train.iloc[:6].copy()
    new.loc[new.index[1], "size"] = 1000.0
    return train, new[["price", "age", "size"]]


def _naive(train: pd.DataFrame, new: pd.DataFrame, norm: str | None, ridge: float) -> tuple:
    """Mean and deviation over an ensemble by explicit inverses, in units of the target."""
    x, y = train[["size", "age"]].to_numpy(), train["price"].to_numpy()
    mean, unit = x.mean(0), x.std(0)
    limit = ff.infinite_width(ff.mlp(2, [3, 3], 1, norm=norm, norm_at="first"), 2.0, 0.01)
    old = torch.from_numpy((x - mean) / unit)
    far = torch.from_numpy((new[["size", "age"]].to_numpy() - mean) / unit)
    weights = limit.ntk(far, old) @ torch.inverse(limit.ntk(old) + ridge * torch.eye(len(x)))
    predicted = y.mean() + y.std() * (weights @ torch.from_numpy((y - y.mean()) / y.std()))
    prior = limit.nngp
    variance = prior(far) + weights @ prior(old) @ weights.T - 2 * weights @ prior(old, far)
    return predicted.numpy(), y.std() * variance.diagonal().sqrt().numpy()


@pytest.mark.parametrize("norm", ["first", "none"])
def test_predictions_are_those_of_explicit_inverses(tables, norm: str) -> None:
    train, new = tables
    result = run(train, new, Settings(target="price", norm=norm, ridge=0.05))
    mean, std = _naive(train, new, "layer" if norm == "first" else None, 0.05)
    np.testing.assert_allclose(result.predictions["prediction"], mean, rtol=1e-9)
    # A difference of variances of size 1, or 1e4 far away, whose root is taken.
    np.testing.assert_allclose(result.predictions["std"], std, rtol=1e-5)
    half = 1.959963984540054 * np.hypot(std, result.fitted.chosen.error)
    np.testing.assert_allclose(result.predictions["upper"] - mean, half, rtol=1e-5)


def test_what_is_outside_is_marked(tables) -> None:
    train, new = tables
    result = run(train, new, Settings(target="price", ridge=0.05, std="none"))
    rows = result.predictions
    assert list(rows.columns) == COLUMNS
    assert rows["outside"].tolist() == [False, True, False, False, False, False]
    expected = (1000.0 - train["size"].max()) / train["size"].std(ddof=0)
    assert rows["outside_by"][1] == pytest.approx(expected)
    assert rows["note"][1] == f"size {expected:.2g} sd above"
    inside = rows[~rows["outside"]]
    np.testing.assert_allclose(inside["distance"], 0.0, atol=1e-12)
    assert rows["std"].isna().all()
    assert set(result.metrics["part"]) == {"all", "inside", "outside"}
    error = rows["prediction"] - rows["target"]
    assert result.metrics["rmse"][0] == pytest.approx(np.sqrt((error**2).mean()))
    assert "coverage" not in result.metrics


@pytest.mark.parametrize("norm", ["first", "none"])
def test_limits_are_where_predictions_go(tables, norm: str) -> None:
    """Features at 1e9 times their size, predicted by the explicit inverse."""
    train, new = tables
    result = run(train, new, Settings(target="price", norm=norm, ridge=0.05))
    far = pd.DataFrame({"size": [-1e9, 1e9, 5.0, 5.0], "age": [50.0, 50.0, -1e9, 1e9]})
    mean, _ = _naive(train, far, "layer" if norm == "first" else None, 0.05)
    degree = result.limits["degree"]
    assert (degree == (0 if norm == "first" else 1)).all()
    # What is missing at a distance of 1e9 is a part of 1e-8 of it.
    np.testing.assert_allclose(mean / 1e9**degree, result.limits["limit"], rtol=1e-6)
    centre = train[["size", "age"]].mean()
    row = centre + 1e9 * (new[["size", "age"]].iloc[1] - centre)
    mean, _ = _naive(train, row.to_frame().T, "layer" if norm == "first" else None, 0.05)
    found = result.predictions.iloc[1]
    assert mean[0] / 1e9 ** found["limit_degree"] == pytest.approx(found["limit"], rel=1e-6)
    assert result.certificate.bounded == (norm == "first")
    lower, upper = result.bounds
    assert lower <= result.predictions["prediction"].min()
    assert result.predictions["prediction"].max() <= upper
    text = result.story().answer
    assert ("Bounded: for every input" in text) == (norm == "first")


def test_the_ridge_is_the_best_when_every_row_is_left_out(tables) -> None:
    """One fit for each row and ridge, with a duplicate that is left out together."""
    train, new = tables
    train = pd.concat([train[:15], train[:1].assign(price=130.0)], ignore_index=True)
    result = run(train, new, Settings(target="price"))
    x, y = train[["size", "age"]].to_numpy(), train["price"].to_numpy()
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    kernel = ff.infinite_width(ff.mlp(2, [3, 3], 1, norm="layer", norm_at="first"), 2.0, 0.01).ntk
    matrix = kernel(torch.from_numpy(x)).numpy()
    errors = []
    for ridge in RIDGES:
        own = []
        for i in range(len(x)):
            rest = (x != x[i]).any(1)
            inner = matrix[np.ix_(rest, rest)] + ridge * np.eye(rest.sum())
            own.append(y[i] - matrix[i, rest] @ np.linalg.solve(inner, y[rest]))
        errors.append(np.sqrt(np.mean(np.square(own))))
    best = int(np.argmin(errors))
    assert result.fitted.chosen.ridge == RIDGES[best]
    expected = errors[best] * train["price"].std(ddof=0)
    # The naive solve loses digits to a matrix with condition 1e6 and more.
    assert result.fitted.chosen.error == pytest.approx(expected, rel=1e-5)


def test_tables_that_have_to_be_survived(tables) -> None:
    _, new = tables
    one = pd.DataFrame({"size": [1.0], "age": [50.0], "price": [4.0]})
    result = run(one, new, Settings(target="price", ridge=0.1))
    assert (result.predictions["prediction"] == 4.0).all()
    assert result.bounds == (4.0, 4.0)
    with pytest.raises(SettingsError, match="such as --ridge"):
        run(one, new, Settings(target="price"))
    constant = pd.concat([one, one.assign(size=2.0)])
    assert (run(constant, new, Settings(target="price")).predictions["prediction"] == 4.0).all()
    text = pd.DataFrame({"c": ["a", "b", "a"], "price": [1.0, 2.0, 1.5]})
    result = run(text, text[["c"]], Settings(target="price"))
    assert result.limits.empty
    assert "rays" not in [figure.name for figure in result.story().figures]


def test_conflicting_duplicates_are_told_and_a_singular_kernel_is_refused(tables) -> None:
    train, new = tables
    doubled = pd.concat([train, train[:1].assign(price=0.0)])
    result = run(doubled, new, Settings(target="price", ridge=0.0))
    assert any("with the mean of its targets" in r or "mean" in r for r in result.story().remarks)
    line = pd.DataFrame({"x": np.linspace(-1, 1, 30), "y": np.linspace(0, 1, 30) ** 2})
    with pytest.raises(SingularKernelError, match="--ridge 1e-4"):
        run(line, line, Settings(target="y", ridge=0.0, bias_var=0.0))


def test_other_networks(tables) -> None:
    train, new = tables
    rows = Settings(target="price", kernel="nngp", std="posterior", rows=20, ridge=0.1, seed=3)
    result = run(train, new, rows)
    assert len(result.fitted.rows) == 20
    assert any("20 random rows of 40" in note for note in result.story().remarks)
    x = torch.from_numpy(result.fitted.inputs.apply(result.new.features))
    assert (result.fitted.fit.predict(x, return_std=True)[1] > 0).all()
    assert result.certificate.bounded
    deep = Settings(target="price", hidden=3, activation="gelu", norm="none", ridge=0.1)
    assert run(train, new, deep).certificate.bounded is False


def test_too_many_rows_for_memory(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    train, new = tables
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * 40**2 - 1)
    with pytest.raises(SettingsError, match=r"40 training rows .*\(40 x 40 .*--rows"):
        run(train, new, Settings(target="price"))
    monkeypatch.undo()
    with pytest.raises(SettingsError, match=r"takes 8,000.0 GB .* --rows \d+000 or fewer"):
        memory.require_matrix(10**6)
    assert memory.free_memory() > 0


def test_the_command_writes_everything(command, tables, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, new = tables
    train.assign(colour="red").to_parquet("train.parquet")
    new = new.assign(colour="red", id=range(6))
    new.loc[new.index[2], "colour"] = "gold"
    new.loc[new.index[3], "age"] = None
    new.to_csv("new.csv", index=False)
    line = ("regress", "train.parquet", "new.csv", "--target", "price", "--out", "run")
    code, out, err = command(*line)
    assert code == 0, err
    assert "Bounded: for every input" in out
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'run' / 'report.html'}"
    assert {path.name for path in Path("run").iterdir()} == {
        *("settings.json", "metrics.csv", "predictions.csv", "limits.csv", "certificate.json"),
        *("report.html", "figures"),
    }
    rows = pd.read_csv("run/predictions.csv")
    assert rows["row"].tolist() == list(range(6))
    assert rows["prediction"].isna().tolist() == [False, False, False, True, False, False]
    assert rows["note"][3] == "no prediction: age missing"
    assert rows["note"][2] == "colour is 'gold', not in training"
    assert rows["outside"].tolist()[:3] == [False, True, True]
    saved = json.loads(Path("run/certificate.json").read_text())
    assert saved["standardised"]["bounded"] is True
    assert saved["forms"]["norm"] <= saved["forms"]["root"]
    assert rows["prediction"].max() <= saved["target units"]["upper"]
    page = html.unescape(Path("run/report.html").read_text())
    for text in ("farfield regress train.parquet", "norm: sqrt(C a' K a)", "Columns of the"):
        assert text in page
    record = json.loads(Path("run/settings.json").read_text())
    assert (record["status"], record["settings"]["norm"]) == ("finished", "first")
    code, _, err = command(*line)
    assert code == 2
    assert "--resume" not in err
    assert "replace it by --overwrite" in err
    assert command(*line, "--overwrite", "--norm", "none", "--std", "none")[0] == 0


def test_a_run_that_fails_leaves_nothing(tables, tmp_path: Path, monkeypatch) -> None:
    def fails(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(regression.study, "certify_fit", fails)
    with pytest.raises(KeyboardInterrupt):
        run(*tables, Settings(target="price", ridge=0.1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
