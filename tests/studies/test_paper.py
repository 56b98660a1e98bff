"""All studies of the paper at once, and the claims that they share."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import farfield as ff
from farfield import report
from farfield.errors import OutputError, SettingsError
from farfield.studies import heatmaps, paper, protein, theorems, toy, transformer
from farfield.studies.claims import Claim, claims_frame

TOY = toy.Settings(seeds=1, epochs=3, hidden=(4, 4), points=5)


@pytest.fixture(autouse=True)
def one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "FUNCTIONS", {"quadratic": torch.square})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "QUICK", {"seeds": 1, "epochs": 3, "hidden": (4, 4), "points": 5})
    monkeypatch.setattr(heatmaps, "QUICK", {"seeds": 2, "widths": (8, 16), "grid": 3})
    short = {"seeds": 1, "epochs": 1, "layers": 1, "heads": 1, "width": 4, "sequences": 2}
    monkeypatch.setattr(
        transformer, "QUICK", {**short, "known": 4, "far": 6, "context": 2, "tests": 2}
    )
    tiny = {"depth": 1, "points": (3,), "hidden": (4, 4), "epochs": 2, "channels": (0.1,)}
    monkeypatch.setattr(theorems, "QUICK", {**tiny, "activations": ("relu",)})


@pytest.mark.usefixtures("small")
def test_one_table_of_all_claims_that_leads_to_their_pages(tmp_path: Path) -> None:
    result = paper.run(tmp_path / "run", paper.Settings(quick=True), data=tmp_path)
    assert list(result.studies) == ["theorems", "toy", "heatmaps", "transformer"]
    for note, name in zip(result.notes, ("protein", "abalone", "placements"), strict=True):
        assert note.startswith(f"{name} was left out: ")
    claims = sum(len(study.claims()) for study in result.studies.values())  # type: ignore[attr-defined]
    frame = result.story().tables[0].frame
    assert len(frame) == len(result.metrics) == claims
    agree = int((frame["agree"] == "yes").sum())
    assert result.story().answer.startswith(f"{agree} of {claims} claims agree")
    page = report.write_report(result, tmp_path / "run").read_text()
    for study in result.studies:
        assert (tmp_path / "run" / study / "settings.json").exists()
        assert page.count(f'<a href="{study}/report.html">') > 0
    with pytest.raises(OutputError, match="already holds a run"):
        paper.run(tmp_path / "run", paper.Settings(quick=True))
    with pytest.raises(SettingsError, match="its quick is True"):
        paper.run(tmp_path / "run", resume=True)


def test_toy_overlays_are_what_the_library_says(tmp_path: Path) -> None:
    result = toy.run(TOY, out=tmp_path)
    theory = result.theory.set_index(["function", "variant", "quantity"])["value"]
    network = ff.mlp(1, [4, 4], 1, norm="layer", norm_at="last").double()
    kernel = ff.infinite_width(network, 2.0, 0.01).ntk
    x = torch.linspace(-3, 3, 5, dtype=torch.float64)[:, None]
    far = torch.tensor([[-30.0], [30.0], [1e15]], dtype=torch.float64)
    expected = kernel(far, x) @ torch.linalg.solve(kernel(x), x.float().double() ** 2)
    exact = theory["quadratic", "last", "exact"].to_numpy()
    # Inputs are float32 in the study; the matrix's condition number is some 1e3.
    np.testing.assert_allclose(exact[[0, -1]], expected[:2, 0].numpy(), rtol=1e-3)
    limit = theory["quadratic", "last", "limit_right"].item()
    assert limit == pytest.approx(expected[2].item(), rel=1e-3)
    assert np.isinf(theory["quadratic", "standard", "limit_right"].item())
    constants = toy.toy_claims.theory_table(result)
    normed = constants.drop(index="standard", level="variant")
    assert np.isfinite(normed).all(axis=None)
    assert (normed["largest_found"] <= normed["proven"]).all()
    assert np.isinf(constants.xs("standard", level="variant")["proven"]).all()
    assert [claim.agrees for claim in result.claims()][1:] == [True, True]
    again = toy.run(TOY, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(result.theory, again.theory, check_exact=True)
    assert (tmp_path / "theory.csv").exists()


def test_batch_norm_has_no_infinite_width() -> None:
    settings = toy.Settings(seeds=1, epochs=2, hidden=(4,), points=4, norm="batch")
    result = toy.run(settings)
    assert "certificate" in toy.toy_claims.theory_table(result)  # of the standard network
    assert "BatchNorm" in result.claims()[1].claim


@pytest.mark.parametrize(
    ("values", "message"), [({"certified": 9}, "is 9"), ({"ridge": 0.0}, "is 0")]
)
def test_overlays_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        toy.Settings(**values)  # type: ignore[arg-type]


def test_protein_claims_compare_intervals() -> None:
    rows = []
    for (variant, domain), published in protein.PUBLISHED.items():
        value = float(published.split(" ± ")[0])
        rows += [(variant, domain, seed, value + off) for seed, off in enumerate((-0.01, 0.01))]
    metrics = pd.DataFrame(rows, columns=["variant", "domain", "seed", "r2"])

    class Result:
        def __init__(self, metrics: pd.DataFrame) -> None:
            self.metrics = self.predictions = metrics
            self.record: dict[str, object] = {}

        def story(self) -> object:
            raise NotImplementedError

    assert [claim.agrees for claim in protein.claims(Result(metrics))] == [True] * 3  # type: ignore[arg-type]
    worse = metrics.assign(r2=metrics["r2"].where(metrics["variant"] != "every", -5.0))
    found = protein.claims(Result(worse))  # type: ignore[arg-type]
    assert [claim.agrees for claim in found] == [False] * 3
    assert "every" in found[1].why


def test_claims_as_a_table() -> None:
    claim = Claim("Fig. 1", "It grows.", "a figure", "1.5", False, "Because.")
    frame = claims_frame([claim])
    assert re.sub(r"\s+", " ", frame.to_csv()) == (
        "item,claim,published,ours,agree,why Fig. 1,It grows.,a figure,1.5,no,Because. "
    )
