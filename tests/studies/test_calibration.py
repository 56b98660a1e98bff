"""Scores of probabilities, of intervals and of alarms, against plain loops and known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farfield.studies.ella import calibration
from farfield.studies.ella.costs import measured


def draw(rng: np.random.Generator, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and classes drawn from them."""
    likely = rng.dirichlet(np.full(classes, 0.4), n)
    labels = np.array([rng.choice(classes, p=row) for row in likely])
    return likely, labels


def test_scores_of_classes_are_those_of_plain_loops(rng: np.random.Generator) -> None:
    likely, labels = draw(rng, 200, 4)
    found = calibration.class_scores(likely, labels)
    nll = brier = right = 0.0
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(likely.tolist(), labels.tolist(), strict=True):
        nll -= math.log(row[label])
        brier += sum((p - (c == label)) ** 2 for c, p in enumerate(row))
        best = row.index(max(row))
        right += best == label
        number = next(k for k in range(15) if max(row) <= (k + 1) / 15 + 1e-15)
        bins.setdefault(number, []).append((max(row), best == label))
    gap = sum(abs(sum(hit - p for p, hit in own)) for own in bins.values())
    expected = {"accuracy": right, "nll": nll, "ece": gap, "brier": brier}
    assert found == pytest.approx({key: value / 200 for key, value in expected.items()}, rel=1e-12)


def test_true_probabilities_are_calibrated(rng: np.random.Generator) -> None:
    likely, labels = draw(rng, 20_000, 3)
    # In each of 15 bins the gap of some 1300 samples is about sqrt(0.2 / 1300) = 0.012.
    assert calibration.class_scores(likely, labels)["ece"] < 0.02
    sharper = likely**3 / (likely**3).sum(axis=1, keepdims=True)
    assert calibration.class_scores(sharper, labels)["ece"] > 0.1


def test_certain_and_wrong_costs_infinitely_much() -> None:
    found = calibration.class_scores(np.array([[1.0, 0.0]]), np.array([1]))
    assert found == {"accuracy": 0.0, "nll": math.inf, "ece": 1.0, "brier": 2.0}


def test_reliability_counts_every_sample_once(rng: np.random.Generator) -> None:
    likely, labels = draw(rng, 500, 5)
    bins = calibration.reliability(likely, labels)
    assert bins["count"].sum() == 500
    assert bins["confidence"].is_monotonic_increasing
    mean = (bins["count"] * bins["accuracy"]).sum() / 500
    assert mean == pytest.approx(calibration.class_scores(likely, labels)["accuracy"])


def test_scores_of_gaussians(rng: np.random.Generator) -> None:
    mean, std = rng.normal(size=4000), rng.uniform(0.5, 2.0, 4000)
    target = mean + std * rng.normal(size=4000)
    found = calibration.gaussian_scores(target, mean, std)
    # The entropy of a Gaussian, within 4 standard errors: the squares have variance 2, halved.
    entropy = 0.5 * math.log(2.0 * math.pi * math.e) + np.log(std).mean()
    assert found["nll"] == pytest.approx(entropy, abs=4 * math.sqrt(0.5 / 4000))
    assert found["rmse"] == pytest.approx(math.sqrt(((target - mean) ** 2).mean()))
    assert found["ece"] < 4 * 0.5 / math.sqrt(4000)  # coverage has at most this standard error
    assert calibration.gaussian_scores(target, mean, 3.0 * std)["ece"] > 0.1
    # Half of the targets lie below the median whatever the standard deviation.
    assert calibration.coverage(target, mean, 9.0 * std)[9] == pytest.approx(0.5, abs=0.04)


def test_an_alarm_is_ranked_as_all_pairs_say(rng: np.random.Generator) -> None:
    inside, outside = rng.integers(0, 6, 40).astype(float), rng.integers(2, 9, 30).astype(float)
    pairs = [(far > near) + 0.5 * (far == near) for far in outside for near in inside]
    assert calibration.auroc(inside, outside) == pytest.approx(np.mean(pairs), rel=1e-14)
    assert calibration.auroc(outside, inside) == pytest.approx(1.0 - np.mean(pairs), rel=1e-13)
    assert math.isnan(calibration.auroc(inside, np.empty(0)))


def test_entropy_of_even_and_of_certain_odds() -> None:
    odds = np.array([[0.25] * 4, [0.0, 1.0, 0.0, 0.0]])
    assert calibration.entropy(odds).tolist() == pytest.approx([math.log(4.0), 0.0])


def test_work_is_measured() -> None:
    found, cost = measured(lambda: float(np.ones(4_000_000).sum()))
    assert found == 4e6
    assert 0.0 < cost.seconds < 60.0
    # 32 MB, where the system tells; the allocator may have had a few of them.
    assert math.isnan(cost.megabytes) or 28.0 < cost.megabytes < 60.0
