"""All studies of the paper at once, and the claims that they share."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import farfield as ff
from drawing import drawn, entries
from farfield import report
from farfield.errors import DataError, OutputError, SettingsError
from farfield.studies import heatmaps, paper, protein, theorems, toy, transformer
from farfield.studies.shared.claims import Claim, claims_frame
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace

LABELS = ["Standard", "LayerNorm first", "LayerNorm second", "LayerNorm every"]
TOY = toy.Settings(seeds=1, epochs=3, hidden=(4, 4), points=5)


@pytest.fixture(autouse=True)
def one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.study, "FUNCTIONS", {"quadratic": torch.square})


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
def test_one_table_of_all_claims_that_leads_to_a_page_for_each_item(tmp_path: Path) -> None:
    nothing = paper.Inputs(tables=tmp_path, fashion=tmp_path)
    result = paper.run(tmp_path / "run", paper.Settings(quick=True), inputs=nothing)
    toys = ["toy-gelu", "toy-silu", "toy-batch"]
    ran = ["theorems", "toy", "heatmaps", *toys, "transformer"]
    assert list(result.studies) == list(result.seconds) == ran
    frame = result.story().tables[0].frame
    assert len(frame) == len(result.metrics) == len(result.claims())
    items = {claim.of for claim in result.claims()}
    theorems_of = {"Theorem 3.1", "Theorem 3.2", "Theorem 3.3", "Theorem C.1", "Section C"}
    figures = {"Fig. 1", "Fig. 2", "Fig. 3", "Fig. 4", "Fig. 5 (GELU)", "Fig. 5 (SiLU)", "Fig. 6"}
    others = {"Fig. 7", "Table 1", "Table 2", "Proposition 3.4", "Prop. E.2"}
    beyond = {"As Table 2", "As Fig. 4", "Beyond: abalone", "Beyond: placements"}
    assert items == theorems_of | figures | others | beyond

    left = frame[frame["agree"] == "not run"]
    assert {name.split(",")[0] for name in left.index} == {
        *("Table 1", "Table 2", "As Table 2", "Fig. 3", "Fig. 4", "As Fig. 4"),
        *("Beyond: abalone", "Beyond: placements"),
    }
    assert left.loc["Table 2, ranking", "why"].endswith("farfield reproduce faces --data PATH).")
    assert "0.27 ± 0.03" in left.loc["Table 2, out of domain", "published"]
    assert "no protein.csv" in left.loc["Fig. 3, tail", "why"]
    agree = int((frame["agree"] == "yes").sum())
    answer = result.story().answer
    assert answer.startswith(f"{agree} of {len(frame) - len(left)} claims agree")
    assert f"Not run: {len(left)}." in answer
    assert f" on {os.cpu_count()} cores" in answer

    pages = result.pages()
    assert set(pages) == items - {name.split(",")[0] for name in left.index}
    for item in ("Theorem 3.3", "Fig. 6"):
        page = pages[item]
        written = report.write_report(page, tmp_path / "run" / page.folder).read_text()
        assert '<a href="../report.html">All claims</a>' in written
        assert page.claims[0].why[:20] in written
        assert sum("published" in table.frame for table in page.story().tables) == 1
    whole = report.write_report(result, tmp_path / "run").read_text()
    assert set(re.findall(r'<a href="([^"]+)"', whole)) == {p.address for p in pages.values()}
    bounds = pages["Theorem 3.3"].story()
    assert [figure.name for figure in bounds.figures] == ["bounds"]
    assert len(bounds.tables) == 2
    assert all(name.startswith("Theorem 3.3") for name in bounds.tables[0].frame.index)
    with pytest.raises(OutputError, match="already holds a run"):
        paper.run(tmp_path / "run", paper.Settings(quick=True))
    with pytest.raises(SettingsError, match="its quick is True"):
        paper.run(tmp_path / "run", resume=True)
    # A study that was finished earlier keeps its time, however fast it is read again.
    again = Workspace.open(tmp_path / "run", "paper", paper.Settings(quick=True), resume=True)
    assert paper.study._once(again, "toy", 1e9) == result.seconds["toy"]


def test_faces_that_are_named_and_not_there_are_told_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        paper.run(tmp_path / "run", inputs=paper.Inputs(faces=tmp_path / "nowhere"))
    assert not (tmp_path / "run" / "theorems").exists()


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
    constants = toy.claims.theory_table(result)
    normed = constants.drop(index="standard", level="variant")
    assert np.isfinite(normed).all(axis=None)
    assert (normed["largest_found"] <= normed["proven"]).all()
    assert np.isinf(constants.xs("standard", level="variant")["proven"]).all()
    assert [claim.agrees for claim in result.claims()][1:] == [True, True]
    again = toy.run(TOY, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(result.theory, again.theory, check_exact=True)
    assert (tmp_path / "theory.csv").exists()
    predictions_are_drawn(result.story())
    theory_is_drawn(result.story())


def predictions_are_drawn(story: Story) -> None:
    canvas = drawn(story, "predictions")
    full, cut = canvas.axes
    assert (full.get_title(), cut.get_xlabel()) == ("quadratic", "x")
    assert (full.get_ylabel(), cut.get_ylabel()) == ("prediction", "prediction, cut")
    assert entries(canvas) == [*LABELS, "training points"]
    lines = full.get_lines()
    assert [line.get_label() for line in lines] == entries(canvas)
    networks = lines[: len(LABELS)]
    assert len({line.get_color() for line in lines}) == len(lines)
    assert len({line.get_linestyle() for line in networks}) == len(LABELS)
    assert {(line.get_xdata()[0], line.get_xdata()[-1]) for line in networks} == {(-25.0, 25.0)}
    # Below it is cut to the networks with LayerNorm and the training points.
    shown = np.concatenate([np.asarray(line.get_ydata()) for line in lines[1:]])
    low, high = cut.get_ylim()
    assert low < shown.min()
    assert shown.max() < high < shown.max() + np.ptp(shown)


def theory_is_drawn(story: Story) -> None:
    canvas = drawn(story, "theory")
    assert [panel.get_title() for panel in canvas.axes] == LABELS
    assert {panel.get_xlabel() for panel in canvas.axes} == {"x"}
    assert canvas.axes[0].get_ylabel() == "quadratic: f(x)"
    said = ["infinite width, exact", "training targets", "infinite width, bound"]
    found = entries(canvas)
    assert found[:4] == [f"{label}, trained" for label in LABELS]
    assert set(found[4:]) == {*said, "infinite width, limit", "trained, proven bound"}
    standard, first = (
        {str(one.get_label()): one for one in p.get_lines()} for p in canvas.axes[:2]
    )
    assert "trained, proven bound" not in standard  # nothing bounds it
    bound = first["trained, proven bound"].get_ydata()[0]
    assert np.abs(first["LayerNorm first, trained"].get_ydata()).max() <= bound * (1.0 + 1e-6)
    ticks = list(canvas.axes[0].get_yticks())
    assert {-9.0, 0.0, 9.0} <= set(ticks)  # the largest target: x squared up to 3
    assert ticks == sorted(ticks)


def test_batch_norm_has_no_infinite_width() -> None:
    settings = toy.Settings(seeds=1, epochs=2, hidden=(4,), points=4, norm="batch")
    result = toy.run(settings)
    assert "certificate" in toy.claims.theory_table(result)  # of the standard network
    growth, proven = result.claims()  # and none about a limit that there is not
    assert "BatchNorm" in growth.claim
    assert "BatchNorm" in proven.claim


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
        rows += [
            (variant, domain, seed, value + off) for seed, off in enumerate((-0.01, 0.01) * 10)
        ]
    metrics = pd.DataFrame(rows, columns=["variant", "domain", "seed", "r2"])
    split = np.linspace(2.0, 3.0, 20)
    slopes = {"standard": 9.0, "first": 2.0, "last": 2.0, "every": 2.0, "xgboost": 0.1}
    predictions = pd.concat(
        pd.DataFrame(
            {
                "variant": variant,
                "seed": seed,
                "domain": "out",
                "split": split,
                "target": 10.0 * np.sin(9.0 * split),
                "prediction": slope * (split - 1.0),
            }
        )
        for variant, slope in slopes.items()
        for seed in (0, 1)
    )

    class Result:
        def __init__(self, metrics: pd.DataFrame) -> None:
            self.metrics, self.predictions = metrics, predictions
            self.record: dict[str, object] = {}

        def story(self) -> object:
            raise NotImplementedError

    found = protein.claims(Result(metrics))  # type: ignore[arg-type]
    assert [claim.agrees for claim in found] == [True] * 5
    assert [claim.item for claim in found] == [claim.item for claim in protein.not_run("")]
    assert "largest prediction 18 ± 0 (standard)" in found[3].ours
    worse = metrics.assign(r2=metrics["r2"].where(metrics["variant"] != "every", -5.0))
    predictions["prediction"] *= predictions["variant"].map(lambda key: 0.1 + (key == "xgboost"))
    found = protein.claims(Result(worse))  # type: ignore[arg-type]
    assert [claim.agrees for claim in found] == [False] * 4 + [True]
    assert "every" in found[1].why
    assert "below it, beyond chance" in found[0].why
    # Below the standard network, but by less than seeds differ: nothing is told.
    shift = (metrics["variant"] == "every") * (20.0 * (metrics["seed"] % 2) - 10.5)
    unsure = protein.claims(Result(metrics.assign(r2=metrics["r2"] + shift)))[0]  # type: ignore[arg-type]
    assert unsure.agrees is None
    one = metrics[metrics["seed"] == 0]
    assert protein.claims(Result(one))[0].agrees is None  # type: ignore[arg-type]
    # Seeds that differ by more than what the standard network is off the largest true value.
    first = (predictions["variant"] == "standard") & (predictions["seed"] == 0)
    predictions.loc[first, "prediction"] *= 30.0
    unsure = protein.claims(Result(worse))[3]  # type: ignore[arg-type]
    assert unsure.agrees is None
    assert "more seeds" in unsure.why


def test_claims_as_a_table() -> None:
    claim = Claim("Fig. 1", "It grows.", "a figure", "1.5", False, "Because.")
    frame = claims_frame([claim])
    assert re.sub(r"\s+", " ", frame.to_csv()) == (
        "item,claim,published,ours,agree,why Fig. 1,It grows.,a figure,1.5,no,Because. "
    )
