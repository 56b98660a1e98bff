"""How sure is it out there? Linearised Laplace posteriors of trained networks, measured.

The experiments of "Accelerated Linearized Laplace Approximation for Bayesian Deep Learning" (ELLA)
on a CPU's scale: a convolutional network on images and an MLP on proteins, in domain and far from
it, with laplace-torch's posteriors beside farfield's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import nn

from farfield.data.fashion import FASHION_FOLDER
from farfield.errors import SettingsError
from farfield.studies.ella import ablation, claims, methods, peers, rays, story
from farfield.studies.ella.costs import measured
from farfield.studies.ella.methods import Method
from farfield.studies.ella.metrics import metrics_of, predicted
from farfield.studies.ella.networks import image_network, protein_networks
from farfield.studies.ella.tasks import (
    IMAGES,
    PROTEINS,
    TEST,
    Task,
    image_task,
    load_images,
    load_table,
    protein_task,
)
from farfield.studies.shared.checks import check_at_least, check_increasing
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.workspace import Workspace
from farfield.training import TrainingSettings

QUICK = {
    "images": "digits",
    "hold_out": "8",
    "seeds": 2,
    "train_images": 200,
    "train_rows": 500,
    "validation": 100,
    "validation_rows": 200,
    "test": 200,
    "channels": (4, 8),
    "hidden": (24, 24),
    "image_units": 16,
    "image_epochs": 200,
    "protein_epochs": 500,
    "batch_size": 50,
    "inducing": 200,
    "more_features": 150,
    "search": 25,
    "exact_size": 500,
    "subnetwork": 200,
    "dense": 1000,
    "ablation_sizes": (4, 16, 64),
    "ablation_rows": 40,
    "ablation_points": 16,
    "ray_rows": 200,
}
"""Settings of a first look."""

METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        methods.MAP,
        methods.TEMPERATURE,
        peers.LAST,
        peers.LAST_EVIDENCE,
        peers.DIAGONAL,
        peers.KFAC,
        peers.KFAC_EVIDENCE,
        peers.SUBNETWORK,
        peers.FULL,
        peers.PEER_ELLA,
        methods.ELLA,
        methods.ELLA_MORE,
        peers.LAST_PROBIT,
        peers.KFAC_PROBIT,
        methods.ELLA_PROBIT,
        methods.EXACT,
    )
}
"""All methods by their key, in the order of the tables."""

_WARM = 100  # samples of a fit that is not measured, so that nothing is loaded or compiled later
_STEPS = 5  # of the progress bar, for each method, beside one for each epoch


@dataclass(frozen=True)
class Settings:
    """Settings of the study; M, K and the start of the prior precision are the paper's.

    The paper's networks (ResNets on CIFAR-10 and ImageNet) need GPUs; the one for images is its
    network for MNIST with half of the channels and without BatchNorm.

    Attributes:
        images: ``"fashion"`` (Fashion-MNIST) or ``"digits"`` (scikit-learn's).
        hold_out: The class that no network has seen.
        seeds: Networks, each with its own split.
        train_images: Images that train.
        train_rows: Proteins that train.
        validation: Images by which prior precision, temperature and the part of the data are
            chosen, the same for all methods.
        validation_rows: Proteins by which prior precision, noise and the part of the data are.
        test: Samples of each domain that test, at most.
        largest_angle: Test images are turned by angles uniform between minus this and this.
        channels: Of the two convolutions.
        image_units: Of the hidden layer behind them; 64 features enter the last layer of the
            paper's residual networks, too.
        hidden: Hidden widths of the MLP.
        image_epochs: Passes of Adam over the images.
        protein_epochs: Passes of Adam over the proteins.
        image_learning_rate: Adam's step size on images: with this and ``image_epochs`` the networks
            of the default settings have learned all but a hundredth of their training images.
        learning_rate: Adam's step size on proteins.
        batch_size: Samples in a batch, of training and of laplace-torch's Jacobians.
        prior_precision: By which ELLA stops over the data; 1 / 0.04 in the paper. Then it is
            chosen by the validation data as of all methods.
        inducing: M of ELLA.
        features: K of ELLA.
        more_features: K of ELLA once more; the paper's gives variances that are too small here.
        search: Samples between two looks at the validation data; 40, as on CIFAR-10 in the paper.
        exact_size: Rows of the exact posterior's matrix: it is fitted to so many proteins, or
            images times classes less one.
        subnetwork: Weights of the dense Hessian on a part of the weights.
        dense: Parameters up to which the dense Hessian of all is tried.
        jacobian: Numbers in a sample's Jacobian up to which laplace-torch's ELLA is tried.
        methods: Keys of :data:`METHODS` to compare.
        ablation_sizes: M and K of the ablation.
        ablation_rows: Training samples of its exact posterior.
        ablation_points: Test samples at which it is compared; 256 in the paper.
        ray_rows: Proteins of the posteriors that are followed along rays.
    """

    images: str = "fashion"
    hold_out: str = "bag"
    seeds: int = 5
    train_images: int = 3000
    train_rows: int = 3000
    validation: int = 300
    validation_rows: int = 1000
    test: int = 1000
    largest_angle: float | int = 45.0
    channels: tuple[int, int] = (8, 16)
    image_units: int = 64
    hidden: tuple[int, ...] = (128, 128)
    image_epochs: int = 40
    protein_epochs: int = 300
    image_learning_rate: float = 4e-3
    learning_rate: float = 1e-3
    batch_size: int = 100
    prior_precision: float | int = 25.0
    inducing: int = 2000
    features: int = 20
    more_features: int = 1000
    search: int = 75
    exact_size: int = 2000
    subnetwork: int = 1000
    dense: int = 5000
    jacobian: int = 100_000
    methods: tuple[str, ...] = tuple(METHODS)
    ablation_sizes: tuple[int, ...] = (4, 16, 64, 256, 1024)
    ablation_rows: int = 256
    ablation_points: int = 64
    ray_rows: int = 1000

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.images not in ("fashion", "digits"):
            raise SettingsError(f"images is {self.images!r}; choose 'fashion' or 'digits'.")
        counts = (
            "seeds",
            "validation",
            "validation_rows",
            "test",
            "inducing",
            "features",
            "search",
        )
        least = {**dict.fromkeys(counts, 1), "train_images": _WARM, "train_rows": _WARM}
        least |= {
            "dense": 0,
            "jacobian": 0,
            "more_features": 1,
            "subnetwork": 1,
            "image_units": 1,
            "exact_size": 10,
            "ablation_rows": 1,
            "ablation_points": 1,
        }
        check_at_least(self, {**least, "ray_rows": 1})
        check_increasing(self, "ablation_sizes")
        unknown = [key for key in self.methods if key not in METHODS]
        if unknown or "map" not in self.methods or "ella" not in self.methods:
            raise SettingsError(
                f"methods is {', '.join(self.methods)}; name map, ella, and any of "
                f"{', '.join(key for key in METHODS if key not in ('map', 'ella'))}."
            )
        if not 0.0 < self.prior_precision < math.inf:
            raise SettingsError(
                f"prior_precision is {self.prior_precision}; it must be finite and above 0."
            )
        TrainingSettings(self.image_epochs, self.image_learning_rate, self.batch_size)
        TrainingSettings(self.protein_epochs, self.learning_rate, self.batch_size)

    def compared(self) -> tuple[Method, ...]:
        """The methods, in the order of the tables."""
        return tuple(method for key, method in METHODS.items() if key in self.methods)

    def labels(self) -> dict[str, str]:
        """Names of the methods for readers, by key, in the order of the tables."""
        sizes = {
            "ella": f"ELLA, K = {self.features}",
            "ella_more": f"ELLA, K = {self.more_features}",
            "ella_probit": f"ELLA, K = {self.more_features}, probit",
        }
        return {method.key: sizes.get(method.key, method.label) for method in self.compared()}


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        source: Where the images come from.
        metrics: For each task, seed, method and domain: accuracy or RMSE, negative log likelihood,
            calibration error, Brier score, the area under the curve of each alarm, and what the
            method cost: seconds to fit, to tune and to predict the test samples, and megabytes.
        predictions: For each of these and sample: target, probabilities or mean and standard
            deviation, and alarms.
        ablation: For each task, M and K: relative errors of ELLA's kernel and covariances.
        rays: Standard deviations and the alarm along rays, with and without LayerNorm.
        skipped: Why a method was not run, by task and method.
        record: Settings, data, versions and machine.
    """

    settings: Settings
    source: str
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    ablation: pd.DataFrame
    rays: pd.DataFrame
    skipped: Mapping[tuple[str, str], str]
    record: Mapping[str, object]

    def claims(self) -> tuple[Claim, ...]:
        """What the paper and this library claim, beside what was found."""
        return claims.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    settings: Settings | None = None,
    *,
    data: Path | str | None = None,
    fashion: Path | str = FASHION_FOLDER,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Train the networks, fit every posterior, and measure what it knows and what it costs.

    Args:
        settings: The settings.
        data: A folder with ``protein.csv``; see :func:`farfield.data.locate`.
        fashion: The folder of Fashion-MNIST; that of Debian's package by default.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Metrics, predictions, ablation and rays. A method that cannot run is left out, with the
        reason in ``skipped``.

    Raises:
        DataError: Images or proteins are not there.
        SettingsError: Settings other than those of the run to resume, or more samples than there
            are.
        MissingExtraError: The digits need scikit-learn, which is not installed.
        TrainingError: A loss that is not finite.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Deng, Zhou and Zhu (NeurIPS 2022), arXiv 2210.12642.
    """
    settings = settings if settings is not None else Settings()
    pool, table = load_images(settings, fashion), load_table(settings, data)
    seen = pool.digest.encode() + table.features.tobytes() + table.target.tobytes()
    workspace = Workspace.open(
        out,
        "ella",
        settings,
        data={"images": pool.source, "sha256": hashlib.sha256(seen).hexdigest()},
        resume=resume,
        overwrite=overwrite,
    )
    seeds, asked = range(settings.seeds), settings.compared()
    tasks = {
        IMAGES: [image_task(pool, settings, seed) for seed in seeds],
        PROTEINS: [protein_task(table, settings, seed) for seed in seeds],
    }
    epochs = settings.seeds * settings.image_epochs + 2 * settings.protein_epochs
    parts, skipped = [], {}
    with Steps(epochs + _STEPS * (2 * settings.seeds * len(asked) + 3), progress) as steps:
        networks: dict[str, list[nn.Module]] = {IMAGES: []}
        for seed, task in enumerate(tasks[IMAGES]):
            done = steps.stage(f"training on images, seed {seed}", settings.image_epochs)
            networks[IMAGES].append(image_network(task, settings, seed, workspace, done))
        done = steps.stage("training on proteins", settings.protein_epochs)
        networks[PROTEINS] = protein_networks(tasks[PROTEINS], False, settings, workspace, done)
        done = steps.stage("training with LayerNorm", settings.protein_epochs)
        normed = protein_networks(tasks[PROTEINS][:1], True, settings, workspace, done)[0]
        for name, own in tasks.items():
            for seed, task in enumerate(own):
                network = networks[name][seed]
                for method in asked:
                    steps.stage(f"{name}, seed {seed}: {method.label}", _STEPS)
                    why = method.hindered(network, task, settings)
                    if why:
                        skipped[name, method.key] = why
                        continue
                    parts.append(_part(workspace, method, network, task, seed, settings))
        tables = []
        for name, own in tasks.items():
            steps.stage(f"ablation, {name}", _STEPS)
            tables.append(ablation.part(workspace, networks[name][0], own[0], settings))
        steps.stage("rays", _STEPS)
        compared = {False: networks[PROTEINS][0], True: normed}
        beyond = rays.part(workspace, compared, tasks[PROTEINS][0], settings)
    predictions = pd.concat(parts, ignore_index=True)
    metrics = metrics_of(predictions)
    workspace.save(metrics, predictions)
    workspace.finish()
    ablated = pd.concat(tables, ignore_index=True)
    return Result(
        settings, pool.source, metrics, predictions, ablated, beyond, skipped, workspace.record
    )


def _part(
    workspace: Workspace,
    method: Method,
    network: nn.Module,
    task: Task,
    seed: int,
    settings: Settings,
) -> pd.DataFrame:
    """Everything that a method says of a task, and what it cost; a resumed run reads it."""

    def compute() -> pd.DataFrame:
        x, y = task.train
        method.fit(network, replace(task, train=(x[:_WARM], y[:_WARM])), settings)
        posterior, fit = measured(lambda: method.fit(network, task, settings))
        _, tune = measured(lambda: posterior.tune(task.validation))
        inside, predict = measured(lambda: posterior.moments(task.domains[TEST][0]))
        known = {TEST: inside}
        frames = [predicted(posterior, task, domain, known.get(domain)) for domain in task.domains]
        return pd.concat(frames, ignore_index=True).assign(
            task=task.name,
            seed=seed,
            method=method.key,
            fit_seconds=fit.seconds,
            tune_seconds=tune.seconds,
            predict_seconds=predict.seconds,
            fit_megabytes=fit.megabytes,
            predict_megabytes=predict.megabytes,
            prior_precision=posterior.prior_precision,
            noise_var=posterior.noise_var,
        )

    return workspace.part(f"{task.name}-{seed}-{method.key}", compute)
