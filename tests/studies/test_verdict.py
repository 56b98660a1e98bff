"""The verdict follows the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from farfield.studies.shared.verdict import verdict

LABELS = {"standard": "Standard", "first": "LayerNorm first", "every": "LayerNorm every"}


def _metrics(outside: dict[str, list[float]], inside: float = 0.6) -> pd.DataFrame:
    rows = []
    for variant, values in outside.items():
        for seed, r2 in enumerate(values):
            for domain, score in (("out", r2), ("in", inside)):
                rows.append(
                    {
                        "variant": variant,
                        "seed": seed,
                        "domain": domain,
                        "r2": score,
                        "max_abs_prediction": 30.0 if variant == "standard" else 20.0,
                    }
                )
    return pd.DataFrame(rows)


def test_a_clear_winner_is_taken_with_its_numbers() -> None:
    text = verdict(
        _metrics(
            {
                "standard": [0.30, 0.32, 0.31],
                "first": [0.50, 0.52, 0.51],
                "every": [0.40, 0.42, 0.41],
                "xgboost": [0.2, 0.2, 0.2],
            }
        ),
        LABELS,
    )
    assert text.startswith(
        "Take LayerNorm first: out of domain its R2 is 0.510 ± 0.025 against 0.310"
    )
    assert "(a difference of 0.2 ± 0)" in text
    assert "largest |prediction| out of domain is 20 ± 0 against 30 ± 0" in text
    assert "keeps it bounded" in text
    assert "told apart" not in text
    assert "XGBoost" not in text


def test_pairing_by_seed_tells_apart_what_intervals_would_not() -> None:
    base = np.array([0.1, 0.3, 0.5])
    text = verdict(
        _metrics(
            {
                "standard": list(base),
                "first": list(base + np.array([0.10, 0.11, 0.10])),
                "every": list(base + np.array([0.05, 0.06, 0.05])),
            }
        ),
        LABELS,
    )
    assert text.startswith("Take LayerNorm first")
    assert "told apart" not in text


def test_networks_within_chance_are_named() -> None:
    text = verdict(
        _metrics({"standard": [0.1, 0.1], "first": [0.50, 0.48], "every": [0.48, 0.51]}), LABELS
    )
    assert text.startswith("Take LayerNorm every")  # the better mean, though within chance
    assert text.endswith("cannot be told apart from that of LayerNorm first.")


def test_a_standard_network_that_wins_is_taken_with_a_warning() -> None:
    text = verdict(
        _metrics({"standard": [0.6, 0.61], "first": [0.5, 0.51], "every": [0.4, 0.41]}), LABELS
    )
    assert text.startswith("Take the standard network")
    assert "LayerNorm first" in text
    assert "nothing bounds" in text


def test_a_tie_with_the_standard_network_goes_to_the_bounded_one() -> None:
    text = verdict(
        _metrics({"standard": [0.6, 0.5], "first": [0.5, 0.6], "every": [0.2, 0.21]}), LABELS
    )
    assert text.startswith("Take LayerNorm first")
    assert "cannot be told apart from that of Standard" in text


def test_the_best_of_the_bounded_is_taken_where_the_standard_network_leads_by_chance() -> None:
    text = verdict(
        _metrics(
            {
                "standard": [0.1, -0.3, 0.4],
                "first": [-0.9, -0.5, -0.8],
                "every": [-0.2, 0.3, -0.1],
            }
        ),
        LABELS,
    )
    assert text.startswith("Take LayerNorm every")
    assert "the standard network's lead is within chance" in text
    # First is worse than what is taken, beyond chance, and is not among the alike.
    assert text.endswith("cannot be told apart from that of Standard.")


def test_uselessness_a_single_seed_and_xgboost_are_said() -> None:
    text = verdict(_metrics({"standard": [-3.0], "first": [-1.0], "every": [-2.0]}), LABELS)
    assert "No network has an R2 above 0" in text
    assert "single seed" in text
    text = verdict(
        _metrics(
            {
                "standard": [0.1, 0.1],
                "first": [0.2, 0.21],
                "every": [0.1, 0.1],
                "xgboost": [0.8, 0.81],
            }
        ),
        LABELS,
    )
    assert "XGBoost does better still out of domain (R2 0.8" in text


def test_one_useful_network_is_not_called_useless() -> None:
    text = verdict(
        _metrics({"standard": [-3.0, -3.1], "first": [-1.0, -1.1], "every": [0.1, 0.11]}), LABELS
    )
    assert text.startswith("Take LayerNorm every")
    assert "No network" not in text


def test_constant_targets_out_of_domain() -> None:
    text = verdict(_metrics({key: [float("nan")] * 2 for key in LABELS}), LABELS)
    assert "undefined" in text


@pytest.mark.parametrize("key", LABELS)
def test_every_network_can_be_taken(key: str) -> None:
    values = {other: [0.1, 0.11] for other in LABELS} | {key: [0.5, 0.52]}
    expected = "Take the standard network" if key == "standard" else f"Take {LABELS[key]}"
    assert verdict(_metrics(values), LABELS).startswith(expected)
