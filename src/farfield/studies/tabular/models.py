"""Fitting the models of a tabular comparison on several random splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.data import Domains, Prepared, train_test_rows
from farfield.errors import DataError, MissingExtraError, TrainingError
from farfield.studies.shared.scale import Scale
from farfield.studies.shared.variants import Variant, draw
from farfield.studies.shared.workspace import Workspace
from farfield.training import Checkpoint, Fleet, train

if TYPE_CHECKING:
    from farfield.studies.tabular.study import Settings


@dataclass(frozen=True)
class Split:
    """The rows of one random split.

    Attributes:
        seed: Its seed, also that of the networks trained on it.
        train: Rows to train on.
        test: The other rows of the training domain.
        outside: All rows out of it.
    """

    seed: int
    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]
    outside: Int[np.ndarray, " n_out"]


def draw_splits(
    prepared: Prepared, domains: Domains, fraction: float, seeds: int
) -> tuple[Split, ...]:
    """A random split for each seed.

    Args:
        prepared: The table.
        domains: Its two sides.
        fraction: Part of the training domain that trains.
        seeds: How many.

    Returns:
        The splits of the seeds 0, 1, ...

    Raises:
        DataError: Too few distinct rows.
    """
    return tuple(
        Split(seed, *train_test_rows(prepared, domains.inside, fraction, seed), domains.outside)
        for seed in range(seeds)
    )


# A LayerNorm squares what it is given, and float32 ends at 3e38.
_FARTHEST = 1e15


def require_representable(prepared: Prepared, splits: Sequence[Split], settings: Settings) -> None:
    """See, before any long work, that the models can represent all rows in float32.

    Args:
        prepared: The table.
        splits: The splits.
        settings: Whether columns are standardised, and whether XGBoost runs.

    Raises:
        DataError: A column goes too far; the message names it.
    """
    for split in splits:
        scale = Scale.of(prepared.features[split.train], settings.standardise_inputs)
        farthest = np.abs(scale.apply(prepared.features)).max(axis=0)
        worst = int(farthest.argmax())
        if farthest[worst] > _FARTHEST:
            raise DataError(
                f"The column {prepared.names[worst]!r} goes {farthest[worst]:.0e} units (standard "
                f"deviations in training, if standardised) away, and float32 networks can follow "
                f"to {_FARTHEST:.0e}; rescale it, for example by a logarithm, or leave it out "
                "with --ignore."
            )
        scale = Scale.of(prepared.target[split.train, None], settings.standardise_target)
        if np.abs(scale.apply(prepared.target[:, None])).max() > _FARTHEST:
            raise DataError(
                f"The target {settings.target!r} goes more than {_FARTHEST:.0e} units (standard "
                "deviations in training, if standardised) away; rescale it, for example by a "
                "logarithm."
            )
    single = np.finfo(np.float32).max
    if (
        settings.xgboost
        and max(np.abs(prepared.target).max(), np.abs(prepared.features).max()) > single
    ):
        raise DataError(
            "XGBoost works in float32, and the table has values above 3e38; rescale them, or leave "
            "XGBoost out with --no-xgboost."
        )


def fit_networks(
    prepared: Prepared,
    splits: Sequence[Split],
    variant: Variant,
    settings: Settings,
    device: torch.device,
    workspace: Workspace,
    on_epoch: Callable[[int], None],
) -> list[Float[np.ndarray, " n_eval"]]:
    """Train a variant on every split, all splits of the same size at once.

    Args:
        prepared: The table.
        splits: The splits.
        variant: The network.
        settings: How to draw and train it.
        device: Where.
        workspace: Keeps the progress.
        on_epoch: Called with the number of epochs done.

    Returns:
        For each split the predictions of its test rows, then of the rows out of domain.

    Raises:
        TrainingError: A loss or a prediction that is not finite.
    """
    # Sets of duplicates can make the training parts differ in size by a row or so.
    sizes = sorted({len(split.train) for split in splits})
    outcome: dict[int, np.ndarray] = {}
    for part, size in enumerate(sizes):
        name = variant.key if len(sizes) == 1 else f"{variant.key}-{part + 1}"

        def done(epochs: int, before: int = part * settings.epochs) -> None:
            on_epoch((before + epochs) // len(sizes))

        outcome |= _fit_together(
            prepared,
            [split for split in splits if len(split.train) == size],
            variant,
            settings,
            device,
            workspace.checkpoint(name),
            done,
        )
    return [outcome[split.seed] for split in splits]


def _fit_together(
    prepared: Prepared,
    splits: Sequence[Split],
    variant: Variant,
    settings: Settings,
    device: torch.device,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[int], None],
) -> dict[int, np.ndarray]:
    """Train one fleet, a network for each split; predictions by seed."""
    networks = [
        draw(
            variant,
            len(prepared.names),
            settings.hidden,
            1,
            activation=settings.activation,
            weight_var=settings.weight_var,
            bias_var=settings.bias_var,
            seed=split.seed,
        ).to(device)
        for split in splits
    ]
    x, y, evaluated, scales = [], [], [], []
    for split in splits:
        rows = np.concatenate([split.test, split.outside])
        scale = Scale.of(prepared.features[split.train], settings.standardise_inputs)
        x.append(scale.apply(prepared.features[split.train]))
        evaluated.append(scale.apply(prepared.features[rows]))
        scales.append(Scale.of(prepared.target[split.train, None], settings.standardise_target))
        y.append(scales[-1].apply(prepared.target[split.train, None]))
    far = _stack(evaluated)
    fleet = Fleet(networks)
    train(
        fleet,
        _stack(x),
        _stack(y),
        settings.training(),
        seeds=[split.seed for split in splits],
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    predicted = fleet.predict_each(far).cpu().double().numpy()
    if not np.isfinite(predicted).all():
        raise TrainingError(
            f"The network {variant.label!r} predicts numbers that are not finite; lower the "
            "learning rate, or rescale columns with extreme values."
        )
    return {
        split.seed: scale.undo(values)[:, 0]
        for split, values, scale in zip(splits, predicted, scales, strict=True)
    }


def fit_xgboost(
    prepared: Prepared, splits: Sequence[Split], rounds: int
) -> list[Float[np.ndarray, " n_eval"]]:
    """Train XGBoost at its defaults on every split.

    Args:
        prepared: The table.
        splits: The splits.
        rounds: Number of trees.

    Returns:
        For each split the predictions of its test rows, then of the rows out of domain.

    Raises:
        MissingExtraError: XGBoost is not installed.
    """
    xgboost = load_xgboost()
    outcome = []
    for split in splits:
        model = xgboost.XGBRegressor(
            n_estimators=rounds, random_state=split.seed, n_jobs=torch.get_num_threads()
        )
        model.fit(prepared.features[split.train], prepared.target[split.train])
        rows = np.concatenate([split.test, split.outside])
        outcome.append(model.predict(prepared.features[rows]).astype(float))
    return outcome


def load_xgboost() -> ModuleType:
    """The XGBoost library.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError(
            "XGBoost is not installed; install it with: pip install 'farfield[tabular]', or "
            "leave the comparison out with --no-xgboost."
        ) from error
    return xgboost


def _stack(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(parts)).float()
