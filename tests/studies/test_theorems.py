"""The theorems as experiments."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

import farfield as ff
from farfield import report
from farfield.errors import SettingsError
from farfield.studies import theorems
from farfield.studies.shared.claims import Claiming, claims_frame
from farfield.studies.theorems import bounds, bypass, constants

SMALL = theorems.Settings(
    depth=2, points=(4, 8), hidden=(4, 4), epochs=30, channels=(0.1, 1e-6), activations=("relu",)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("theorems")


@pytest.fixture(scope="module")
def result(folder: Path) -> theorems.Result:
    return theorems.run(SMALL, out=folder)


def test_claims_agree_and_are_told(result: theorems.Result, tmp_path: Path) -> None:
    assert isinstance(result, Claiming)
    claims = result.claims()
    assert [claim.item for claim in claims if not claim.agrees] == []
    assert len(claims) == 11
    page = report.write_report(result, tmp_path).read_text()
    for claim in claims:
        assert claim.item in page
    assert page.count("<figure>") == 3
    assert set(claims_frame(claims)["agree"]) == {"yes"}


def test_numbers_by_hand(result: theorems.Result) -> None:
    table = result.metrics.set_index(["case", "quantity"])["value"]
    assert table["2 hidden, LayerNorm 1", "found"] == pytest.approx(3.03, rel=1e-6)
    assert table["2 hidden, LayerNorm 2", "found"] == pytest.approx(3.01, rel=1e-6)
    for n in (4, 8):
        row = table[f"line, n = {n}"]
        share = n * row["constant"] / row["eigenvalue"]
        assert row["root"] == pytest.approx(math.sqrt(share) * row["target"])
        assert row["linear"] == pytest.approx(share * row["target"])


@pytest.mark.parametrize(
    ("item", "quantity", "claims"),
    [
        ("Theorem 3.2", "proven", constants.claims_largest),
        ("Theorem 3.3", "norm", bounds.claims),
        ("Theorem C.1", "pairs", constants.claims_constant),
        ("Proposition 3.4", "bounded", bypass.claims),
    ],
)
def test_other_numbers_do_not_agree(
    result: theorems.Result, item: str, quantity: str, claims: object
) -> None:
    frame = result.of(item).copy()
    changed = frame["quantity"] == quantity
    frame.loc[changed, "value"] = 0.5 if quantity == "pairs" else 0.0
    assert not all(claim.agrees for claim in claims(frame))  # type: ignore[operator]


def test_bypassed_network_is_the_network_up_to_one_over_eps() -> None:
    network = ff.gaussian_init_(ff.mlp(2, [8, 8, 8], 3).double())
    x = 10.0 * torch.randn(20, 2, dtype=torch.float64)
    for eps in (1e-4, 1e-6):
        changed = bypass.bypass(network, eps)
        # The deviation that LayerNorm divides by is off by (|W x + b| eps)^2.
        limit = 1e5 * eps**2 * network(x).abs().max() + 1e-5 * eps
        assert (changed(x) - network(x)).abs().max() < limit
    far = torch.full((1, 2), 1e12, dtype=torch.float64)
    assert changed(far).abs().max() < 1e-3 * network(far).abs().max()


def test_theorems_are_resumed_to_the_same_bits(result: theorems.Result, folder: Path) -> None:
    again = theorems.run(SMALL, out=folder, resume=True)
    pd.testing.assert_frame_equal(result.metrics, again.metrics, check_exact=True)
    pd.testing.assert_frame_equal(result.predictions, again.predictions, check_exact=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"points": (8, 4)}, "must increase"),
        ({"points": ()}, "must increase"),
        ({"hidden": (4,)}, "two or more widths"),
        ({"epochs": 0}, "epochs is 0"),
        ({"channels": (1e-3, 1e-2)}, "must decrease"),
        ({"channels": (0.0,)}, "between 0 and 1"),
        ({"activations": ("tanh",)}, "other than tanh"),
        ({"activations": ("relu", "sine")}, "choose of relu"),
    ],
)
def test_settings_of_theorems_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        theorems.Settings(**values)  # type: ignore[arg-type]
