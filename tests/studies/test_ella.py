"""The ELLA study, on a few samples and a handful of steps."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import farfield as ff
from farfield import report
from farfield.errors import DataError, SettingsError
from farfield.studies import ella
from farfield.studies.ella import methods, metrics, peers, tasks
from farfield.studies.ella.ablation import relative
from farfield.studies.ella.claims import told
from farfield.studies.shared.statistics import Mean
from farfield.studies.shared.turning import turned

pytest.importorskip("sklearn")

OURS = ("map", "temperature", "ella", "exact")
SMALL = dataclasses.replace(
    ella.Settings(**ella.QUICK),
    seeds=1,
    train_images=100,
    train_rows=100,
    validation=30,
    validation_rows=30,
    test=40,
    channels=(2, 2),
    hidden=(6,),
    image_epochs=2,
    protein_epochs=2,
    inducing=60,
    features=5,
    more_features=8,
    exact_size=80,
    ablation_sizes=(4,),
    ablation_rows=8,
    ablation_points=4,
    ray_rows=20,
    methods=OURS,
)


@pytest.fixture
def proteins(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """A table of the same form, since the published one is not shipped."""
    frame = pd.DataFrame(rng.normal(size=(500, 9)), columns=[f"F{k}" for k in range(1, 10)])
    frame["F1"] = rng.uniform(15_000.0, 21_000.0, 500)
    frame["RMSD"] = frame["F2"] + rng.normal(size=500)
    monkeypatch.setattr(tasks, "load_protein", lambda folder: frame)


def test_end_to_end_and_resumed_to_the_same_bits(proteins: None, tmp_path: Path) -> None:
    first = ella.run(SMALL, out=tmp_path)
    assert set(first.metrics["method"]) == set(OURS)
    assert first.skipped.keys() == {("proteins", "temperature")}
    # The mean of all posteriors is the network's own output, so that errors are the same.
    test = first.metrics[
        (first.metrics["domain"] == "test") & (first.metrics["task"] == "proteins")
    ]
    assert test["rmse"].max() == pytest.approx(test["rmse"].min(), rel=1e-5)
    costs = first.metrics[["fit_seconds", "predict_seconds"]]
    assert (costs > 0.0).all(axis=None)
    (tmp_path / "checkpoints" / "images-0-ella.parquet").unlink()
    again = ella.run(SMALL, out=tmp_path, resume=True)
    same = [name for name in first.metrics if not name.endswith(("seconds", "megabytes"))]
    pd.testing.assert_frame_equal(first.metrics[same], again.metrics[same], check_exact=True)
    page = report.write_report(again, tmp_path).read_text()
    assert page.count("<figure>") == 4
    verdicts = {claim.item: claim.verdict for claim in again.claims()}
    assert verdicts["images, nll of ELLA, K = 5 against the last layer"] == "not run"
    assert (
        verdicts["images, nll of ELLA, K = 5 against MAP"] == "open"
    )  # of a single seed nothing is told


def test_what_chance_may_have_made_is_left_open() -> None:
    assert told(Mean(-2.0, 1.0)) is True
    assert told(Mean(2.0, 1.0)) is False
    assert told(Mean(-0.5, 1.0)) is None
    assert told(Mean(-3.0, math.nan)) is None


def test_the_held_out_class_is_in_no_other_part() -> None:
    settings = dataclasses.replace(SMALL, hold_out="3")
    pool = tasks.load_images(settings, "")
    task = tasks.image_task(pool, settings, 0)
    held = {image.numpy().tobytes() for image in pool.images[pool.labels == 3]}
    parts = [task.train, task.validation, task.domains["test"]]
    rows = [image.numpy().tobytes() for x, _ in parts for image in x]
    assert not held & set(rows)
    assert len(set(rows)) == 170  # no two of scikit-learn's digits are equal
    assert all(image.numpy().tobytes() in held for image in task.domains["held out"][0])
    labels = torch.cat([y for _, y in parts])
    assert set(labels.tolist()) == set(range(9))


def test_angles_of_0_change_nothing() -> None:
    images = torch.rand(3, 1, 6, 8)
    assert torch.allclose(turned(images, np.zeros(3), (6, 8)), images, atol=1e-6)
    half = turned(images, np.full(3, 180.0), (6, 8))
    assert torch.allclose(half, images.flip(2, 3), atol=1e-5)


def task_of(likelihood: str, outputs: int) -> tasks.Task:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 4, generator=generator)
    y = torch.randint(outputs, (60,), generator=generator) if outputs > 1 else x[:, :1].sin()
    return tasks.Task("images", likelihood, outputs, (x, y), (x[:20], y[:20]), {"test": (x, y)})


beside_peers = pytest.mark.skipif(not peers.installed(), reason="laplace-torch is not installed")


@beside_peers
@pytest.mark.parametrize(("likelihood", "outputs"), [("classification", 3), ("regression", 1)])
def test_peers_say_what_is_exact(likelihood: str, outputs: int) -> None:
    task = task_of(likelihood, outputs)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).eval()
    settings = dataclasses.replace(SMALL, exact_size=200, subnetwork=1000, dense=100)
    exact, full, subset = (
        method.fit(network, task, settings)
        for method in (methods.EXACT, peers.FULL, peers.SUBNETWORK)
    )
    assert isinstance(exact, methods.Exact)
    exact._laplace.prior_precision = 25.0
    full._laplace.prior_precision = subset._laplace.prior_precision = 25.0
    x = task.domains["test"][0]
    mean, covariance = exact.moments(x)
    for peer in (full, subset):  # a subset of all weights is all of them
        found = peer.moments(x)
        torch.testing.assert_close(found[0], mean, rtol=1e-4, atol=1e-5)  # their float32
        torch.testing.assert_close(found[1], covariance, rtol=1e-3, atol=1e-5)


@beside_peers
@pytest.mark.parametrize(("likelihood", "outputs"), [("classification", 3), ("regression", 1)])
def test_kronecker_factors_that_are_turned_once_say_the_same(likelihood: str, outputs: int) -> None:
    task = task_of(likelihood, outputs)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).eval()
    kfac = peers.KFAC.fit(network, task, SMALL)
    assert isinstance(kfac, peers.PeerKron)
    with peers._quietly():
        jacobians, _ = kfac._jacobians(task.domains["test"][0])
    for ridge in (0.01, 30.0):
        kfac._laplace.prior_precision = ridge
        found = kfac.at(kfac.kept(jacobians), ridge)
        torch.testing.assert_close(found, kfac._covariances(jacobians), rtol=1e-4, atol=1e-6)


@beside_peers
@pytest.mark.parametrize(("likelihood", "outputs"), [("classification", 3), ("regression", 1)])
def test_peers_tuned_by_evidence_agree_with_the_exact_evidence(
    likelihood: str, outputs: int
) -> None:
    task = task_of(likelihood, outputs)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).eval()
    peer = peers._fit(network, task, SMALL, "all", "full", by_evidence=True)
    before = copy.deepcopy(task.validation)
    peer.tune(task.validation)
    torch.testing.assert_close(task.validation, before, rtol=0.0, atol=0.0)
    exact = ff.LinearizedLaplace(network, likelihood).fit(task.train).tune()
    # 200 steps of Adam on float32 logarithms end within a few thousandths of a flat maximum.
    assert peer.prior_precision == pytest.approx(exact.prior_precision, rel=0.05)
    assert peer.noise_var == pytest.approx(exact.noise_var if outputs == 1 else 1.0, rel=0.02)
    x = task.domains["test"][0]
    torch.testing.assert_close(peer.moments(x)[1], exact.predict_outputs(x)[1], rtol=0.1, atol=1e-4)


def test_tuning_finds_the_noise_and_temperature_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator)
    noisy = x + 0.5 * torch.randn(4000, 1, generator=generator)
    flat = methods.Map(nn.Identity(), "gaussian", False)
    flat.tune((x, noisy))
    # The variance of a mean of 4000 squares: 4 standard errors.
    assert flat.noise_var == pytest.approx(0.25, rel=4 * math.sqrt(2 / 4000))
    logits = torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial((3.0 * logits).softmax(1), 1, generator=generator)[:, 0]
    warm = methods.Map(nn.Identity(), "probit", True)
    warm.tune((logits, labels))
    mean, _ = warm.moments(logits)
    assert float((mean / logits).mean()) == pytest.approx(3.0, rel=0.1)  # of 4000 labels


def test_probabilities_are_the_mean_softmax() -> None:
    # Of two classes it is the mean sigmoid of their difference, by quadrature.
    covariance = torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double()
    places, weights = np.polynomial.hermite_e.hermegauss(200)
    spread = math.sqrt(3.0 + 2.0 - 2.0)  # the common part is not seen
    curve = 1.0 / (1.0 + np.exp(-(1.0 + spread * places)))
    wanted = float(weights @ curve / weights.sum())
    error = math.sqrt(float(weights @ (curve - wanted) ** 2 / weights.sum()) / (100 * 512))
    mean = torch.tensor([[2.0, 1.0]]).double().repeat(100, 1)
    found = methods.probabilities((mean, covariance.repeat(100, 1, 1)), "monte_carlo")
    assert float(found[:, 0].mean()) == pytest.approx(wanted, abs=4.0 * error)
    certain = methods.probabilities((mean, torch.zeros(100, 2, 2).double()), "monte_carlo")
    torch.testing.assert_close(certain, mean.softmax(1))


def test_probit_is_its_formula() -> None:
    mean = torch.tensor([[2.0, -1.0]]).double()
    covariance = torch.tensor([[[3.0, 0.7], [0.7, 0.0]]]).double()
    scaled = [2.0 / math.sqrt(1.0 + 3.0 * math.pi / 8.0), -1.0]
    first = math.exp(scaled[0]) / (math.exp(scaled[0]) + math.exp(scaled[1]))
    found = methods.probabilities((mean, covariance), "probit")
    assert float(found[0, 0]) == pytest.approx(first)


def test_tuning_is_the_best_of_a_fine_grid() -> None:
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(50, 1, generator=generator).double()
    y = mean + torch.randn(50, 1, generator=generator)
    scale = torch.rand(50, 1, 1, generator=generator).double()

    def loss(precision: float, noise: float) -> float:
        moments = mean, scale / (0.1 / noise + precision)
        return methods.negative_log_likelihood("gaussian", moments, noise, y)

    found = loss(*methods.tuned("gaussian", mean, lambda r: scale / (0.1 + r), y))
    grid = itertools.product(torch.logspace(-6, 8, 57), torch.linspace(0.05, 2.0, 40))
    assert found <= min(loss(float(p), float(noise)) for p, noise in grid) + 1e-3


def test_errors_of_matrices() -> None:
    exact = torch.diag(torch.tensor([4.0, 1.0]))
    assert relative(torch.diag(torch.tensor([4.0, 0.0])), exact) == pytest.approx(0.25)


def test_an_alarm_that_says_nothing_has_no_area() -> None:
    frame = pd.DataFrame({"output_std": [0.0, 0.0]})
    assert math.isnan(metrics._separated(frame, frame, "output_std"))


def test_what_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "installed", lambda: True)
    task, network = task_of("classification", 3), nn.Linear(4, 3)
    few = dataclasses.replace(SMALL, dense=14, jacobian=44)  # of 15 parameters and 3 outputs
    assert "45 numbers" in peers.PEER_ELLA.hindered(network, task, few)
    assert "all 15 parameters" in peers.FULL.hindered(network, task, few)
    assert not peers.PEER_ELLA.hindered(network, task, SMALL)
    assert not peers.FULL.hindered(network, task, SMALL)


def test_without_laplace_torch_its_methods_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "installed", lambda: False)
    task = task_of("regression", 1)
    for method in (peers.KFAC, peers.FULL):
        assert "farfield[ella]" in method.hindered(nn.Linear(4, 1), task, SMALL)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "cats"}, "images is 'cats'"),
        ({"methods": ("map",)}, "methods is map"),
        ({"methods": ("map", "ella", "magic")}, "magic"),
        ({"prior_precision": 0.0}, "prior_precision is 0"),
        ({"ablation_sizes": (4, 4)}, "increasing numbers"),
        ({"train_images": 5}, "train_images is 5"),
        ({"image_epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_of_ella_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(SMALL, **values)


def test_what_is_not_there_is_told(proteins: None, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="hold_out is 'cat'"):
        ella.run(dataclasses.replace(SMALL, hold_out="cat"))
    with pytest.raises(SettingsError, match=r"has 16\d\d without 8"):
        ella.run(dataclasses.replace(SMALL, train_images=5000))
    with pytest.raises(SettingsError, match="proteins to train"):
        ella.run(dataclasses.replace(SMALL, train_rows=5000))
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        ella.run(dataclasses.replace(SMALL, images="fashion"), fashion=tmp_path)
