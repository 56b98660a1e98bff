"""The heat-maps' study, and the closed forms it compares with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

from drawing import drawn, entries
from farfield import report
from farfield.errors import DataError, SettingsError
from farfield.studies import heatmaps
from farfield.studies.shared.claims import Claiming
from farfield.studies.shared.story import Story
from farfield.studies.shared.theory_networks import largest_relu_ntk, relu_ntk, theory_network

SMALL = heatmaps.Settings(seeds=2, widths=(16, 64), grid=5)


@pytest.mark.parametrize(
    ("normed", "own", "at_zero"),
    # Worked out by hand from the recursion, for |x| = 25 and for 0, bias variance 0.01.
    [((), 1875.06, 0.06), ((0,), 3.03, 3.03), ((1,), 3.01, 2.51), ((0, 1), 3.00, 3.00)],
)
def test_closed_form(normed: tuple[int, ...], own: float, at_zero: float) -> None:
    assert relu_ntk(25.0, 25.0, 2, normed, 0.01) == pytest.approx(own, rel=1e-4)
    assert relu_ntk(0.0, 0.0, 2, normed, 0.01) == pytest.approx(at_zero, rel=1e-4)


@pytest.mark.parametrize("place", [None, 0, 1, 2])
def test_constants_are_suprema_of_the_closed_form(place: int | None) -> None:
    normed = range(3) if place is None else (place,)
    top = largest_relu_ntk(3, place, 0.3)
    values = [relu_ntk(x, x, 3, normed, 0.3) for x in (0.0, 0.1, 1.0, 10.0, 1e7)]
    assert max(values) == pytest.approx(top, rel=1e-12)


def test_a_random_network_has_this_kernel_by_its_own_gradients() -> None:
    """The gradients themselves, at a width where one network is within some 10 %."""
    network = theory_network(1, (1024, 1024), "first")
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    x = torch.tensor([[25.0], [-25.0]], dtype=torch.float64)
    gradients = []
    for row in x:
        parts = torch.autograd.grad(network(row[None]).squeeze(), trained)
        scale = (1.0, 0.01, 2.0 / 1024, 0.01, 2.0 / 1024, 0.01)
        gradients.append(
            torch.cat([p.flatten() * s**0.5 for p, s in zip(parts, scale, strict=True)])
        )
    assert float(gradients[0] @ gradients[0]) == pytest.approx(3.03, rel=0.2)
    assert float(gradients[0] @ gradients[1]) == pytest.approx(
        relu_ntk(25.0, -25.0, 2, (0,), 0.01), rel=0.3
    )


def test_every_network_once_and_claims_hold() -> None:
    result = heatmaps.run(SMALL)
    assert isinstance(result, Claiming)
    assert len(result.metrics) == 4 * (1 + 2 * 2)
    sizes = result.predictions.groupby(["kernel", "variant", "part"]).size().unstack()
    assert (sizes["square"] == 25).all()
    exact = result.metrics.query("width == 0").set_index("variant")
    assert exact.loc["standard", "at_far"] == pytest.approx(1875.06, rel=1e-4)
    assert exact.loc["standard", "at_opposite"] == pytest.approx(198.17, rel=1e-4)
    assert exact.loc["first", "at_far"] == pytest.approx(3.03, rel=1e-12)
    claims = {claim.item: claim for claim in result.claims()}
    # Networks of 16 units are far off, but not in what the paper claims.
    for item in ("scale", "corners", "chessboard", "saturation"):
        assert claims[f"Fig. 2, {item}"].agrees, item
    assert claims["Prop. E.2, corners"].agrees


def test_a_claim_that_is_false_is_told() -> None:
    result = heatmaps.run(SMALL)
    ray = (result.predictions["part"] == "ray") & (result.predictions["variant"] == "last")
    result.predictions.loc[ray, "value"] *= np.geomspace(1.0, 10.0, ray.sum())
    result.metrics.loc[result.metrics["width"] > 0, "relative_error"] = 0.5
    claims = {claim.item: claim.agrees for claim in result.claims()}
    assert not claims["Fig. 2, saturation"]
    assert not claims["Fig. 2, convergence"]


def kernels_are_drawn(story: Story) -> None:
    maps = drawn(story, "heatmaps").axes
    titles = ["Standard", "LayerNorm first", "LayerNorm second", "LayerNorm every"]
    assert [panel.get_title() for panel in maps[:4]] == titles
    assert [panel.get_ylabel() for panel in maps[:8:4]] == ["width 16\nx", "exact\nx"]
    assert {panel.get_xlabel() for panel in maps[4:8]} == {"x'"}
    assert {bar.get_xlabel() for bar in maps[8:]} == {"Theta(x, x')"}
    for above, below in zip(maps[:4], maps[4:8], strict=True):  # a column has one scale
        assert len({shown.norm.vmax for panel in (above, below) for shown in _maps(panel)}) == 1
    canvas = drawn(story, "convergence")
    assert canvas.axes[0].get_xlabel() == "width of both hidden layers"
    assert canvas.axes[0].get_ylabel() == "relative error of the kernel"
    assert set(entries(canvas)) == {*titles, "slope of 1 / sqrt(width)"}
    canvas = drawn(story, "rays")
    assert [panel.get_xlabel() for panel in canvas.axes] == ["x", "x"]
    assert canvas.axes[0].get_ylabel() == "Theta(x, 25)"
    assert {f"{title}, {of}" for title in titles for of in ("exact", "width 16")} == set(
        entries(canvas)
    )


def _maps(panel: Axes) -> list[ScalarMappable]:
    return [
        one
        for one in panel.get_children()
        if isinstance(one, ScalarMappable) and one.get_array() is not None
    ]


def test_resumed_to_the_same_bits_and_drawn(tmp_path: Path) -> None:
    first = heatmaps.run(SMALL, out=tmp_path)
    again = heatmaps.run(SMALL, out=tmp_path, resume=True)
    pd.testing.assert_frame_equal(first.metrics, again.metrics, check_exact=True)
    pd.testing.assert_frame_equal(first.predictions, again.predictions, check_exact=True)
    kernels_are_drawn(again.story())
    page = report.write_report(again, tmp_path).read_text()
    assert page.count("<figure>") == 3
    (tmp_path / "checkpoints" / "last-64.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match=r"last-64\.parquet cannot be read"):
        heatmaps.run(SMALL, out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"widths": (64, 16)}, "must increase"),
        ({"widths": (0, 16)}, "a hidden width is 0"),
        ({"grid": 4}, "an odd number"),
        ({"bias_var": 0.0}, "undefined at the input 0"),
        ({"farthest": 3.0}, "finite, above 0 and increase"),
    ],
)
def test_settings_of_heatmaps_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        heatmaps.Settings(**values)  # type: ignore[arg-type]
