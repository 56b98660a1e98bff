"""Training of heads on a frozen backbone: all of a kind at once, scored and certified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from farfield.errors import TrainingError
from farfield.growth import Certificate, certify_model
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.statistics import scores, spread
from farfield.studies.shared.variants import Variant, draw
from farfield.studies.shared.workspace import Workspace
from farfield.training import Fleet, train

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from farfield.studies.heads.study import Bank, Rows, Settings


def similarity(
    features: Float[np.ndarray, "n d"], train: Int[np.ndarray, " n_train"]
) -> Float[np.ndarray, " n"]:
    """Mean cosine of the angles between an image's features and those of the training images.

    Args:
        features: A row for each image.
        train: The training images.

    Returns:
        For each image the mean of ``z . z' / (|z| |z'|)`` over the training images z'.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(length > 0, length, 1.0)
    found: np.ndarray = unit @ unit[train].mean(axis=0, dtype=np.float64)
    return found


def fit(
    bank: Bank,
    rows: Rows,
    settings: Settings,
    workspace: Workspace,
    progress: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Certificate]]:
    """Train all heads, those of a kind at once, and score them in domain and out of it.

    Args:
        bank: Features, target and groups.
        rows: The split.
        settings: The settings.
        workspace: Keeps the progress.
        progress: Whether to show a progress bar.

    Returns:
        Metrics, predictions and certificates; see :class:`farfield.studies.heads.Result`.

    Raises:
        TrainingError: A loss or a prediction that is not finite.
    """
    device = resolve_device(settings.device)
    features, target, restore = _scaled(bank, rows, settings)
    near = similarity(bank.features, rows.train)
    x, y = (torch.from_numpy(a[rows.train]).to(device) for a in (features, target))
    tested = np.concatenate([rows.test, rows.outside])
    seeds = settings.seeds
    metrics, predictions = pd.DataFrame(), pd.DataFrame()
    certificates: dict[str, Certificate] = {}
    compared = settings.compared()
    with Steps(settings.epochs * len(compared), progress) as steps:
        for variant in compared:
            fleet = Fleet(
                [_draw(variant, x.shape[1], settings, s).to(device) for s in range(seeds)]
            )
            train(
                fleet,
                x.expand(seeds, *x.shape),
                y.expand(seeds, *y.shape),
                settings.training(variant),
                checkpoint=workspace.checkpoint(variant.key),
                on_epoch=steps.stage(f"{variant.label}: {seeds} heads", settings.epochs),
            )
            outputs = fleet.predict(torch.from_numpy(features[tested]))[..., 0]
            values = restore(outputs.cpu().double().numpy())
            if not np.isfinite(values).all():
                raise TrainingError(
                    f"The head {variant.label!r} predicts numbers that are not finite; lower the "
                    "learning rate."
                )
            told = _predictions(bank, rows, variant, near, values)
            metrics = pd.concat([metrics, _metrics(variant, told)], ignore_index=True)
            predictions = pd.concat([predictions, told], ignore_index=True)
            workspace.save(metrics, predictions)
            certificates[variant.key] = certify_model(_complete(fleet.networks()[0], restore))
    return metrics, predictions, certificates


def _complete(head: nn.Module, restore: _Affine) -> nn.Sequential:
    """A head that predicts in units of the target, in float64."""
    last = nn.Linear(1, 1)
    with torch.no_grad():
        last.weight.fill_(restore.unit)
        last.bias.fill_(restore.shift)
    assert isinstance(head, nn.Sequential)
    return nn.Sequential(*head, last).cpu().double().eval()


def _draw(variant: Variant, inputs: int, settings: Settings, seed: int) -> torch.nn.Module:
    return draw(
        variant,
        inputs,
        settings.hidden,
        1,
        activation=settings.activation,
        weight_var=settings.weight_var,
        bias_var=settings.bias_var,
        seed=seed,
    )


class _Affine:
    """Turns standardised targets back."""

    def __init__(self, shift: float, unit: float) -> None:
        self.shift, self.unit = shift, unit

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values * self.unit + self.shift


def _scaled(bank: Bank, rows: Rows, settings: Settings) -> tuple[np.ndarray, np.ndarray, _Affine]:
    features = bank.features
    if settings.standardise_inputs:
        unit = spread(features[rows.train].astype(np.float64))
        unit[unit == 0] = 1.0
        features = (features - features[rows.train].mean(axis=0, dtype=np.float64)) / unit
    own = bank.target[rows.train]
    turned = _Affine(float(own.mean()), float(spread(own)))
    if not settings.standardise_target:
        turned = _Affine(0.0, 1.0)
    target = (bank.target - turned.shift) / turned.unit
    return features.astype(np.float32), target.astype(np.float32)[:, None], turned


def _predictions(
    bank: Bank, rows: Rows, variant: Variant, near: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    tested = np.concatenate([rows.test, rows.outside])
    seeds = len(values)
    domain = np.repeat(["in", "out"], [len(rows.test), len(rows.outside)])
    return pd.DataFrame(
        {
            "variant": variant.key,
            "seed": np.repeat(np.arange(seeds), len(tested)),
            "domain": np.tile(domain, seeds),
            "group": np.tile(bank.group[tested].astype(str), seeds),
            "row": np.tile(tested, seeds),
            "target": np.tile(bank.target[tested], seeds),
            "prediction": values.ravel(),
            "similarity": np.tile(near[tested], seeds),
        }
    )


def _metrics(variant: Variant, predictions: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "variant": variant.key,
            "seed": seed,
            "domain": domain,
            "rows": len(own),
            **scores(own["target"].to_numpy(), own["prediction"].to_numpy()),
        }
        for (seed, domain), own in predictions.groupby(["seed", "domain"])
    ]
    return pd.DataFrame(rows)
