"""Kernel regression on a prepared table: scales, the ridge, the fit, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from farfield.data import Prepared
from farfield.errors import SettingsError, SingularKernelError
from farfield.infinite import infinite_width
from farfield.kernel import Kernel
from farfield.networks import mlp
from farfield.regression import KernelFit, KernelRegression, RidgePath
from farfield.regression.duplicates import merge_duplicates
from farfield.regression.matrices import tiles
from farfield.regression.rays import limits_along
from farfield.studies.shared.scale import Scale

if TYPE_CHECKING:
    from farfield.studies.regression.study import Settings

RIDGES = tuple(10.0**exponent for exponent in np.arange(-6.0, 2.01, 0.5).tolist())
"""Between which the ridge is chosen: of a target with standard deviation 1."""

RIDGE_ROWS = 2000
"""Rows of which leave-one-out errors are computed at most."""

_WIDTH = 2  # of the model that is read: only the number of layers matters


@dataclass(frozen=True, eq=False)
class Chosen:
    """The ridge, and how well it does on rows that were left out.

    Attributes:
        ridge: What is added to the diagonal of the kernel matrix.
        error: Root mean square of the leave-one-out errors, in units of the target; 0 if a
            ridge of 0 was asked for, or if there is a single row.
        rows: Of how many rows.
        at_end: Whether it is the smallest or largest that was tried.
    """

    ridge: float
    error: float
    rows: int
    at_end: bool


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor in the units of the table.

    Attributes:
        fit: The regression of standardised targets on standardised features.
        inputs: Scale of the features.
        outputs: Scale of the target.
        rows: The rows of the prepared table that trained.
        chosen: The ridge.
    """

    fit: KernelFit
    inputs: Scale
    outputs: Scale
    rows: Int[np.ndarray, " n"]
    chosen: Chosen

    def predict(
        self, features: Float[np.ndarray, "m d"], with_std: bool
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Predictions and standard deviations; the latter are not numbers if not asked for."""
        x = torch.from_numpy(self.inputs.apply(features))
        if not with_std:
            mean = self.fit.predict(x)
            return self._values(mean), np.full(len(x), np.nan)
        mean, std = self.fit.predict(x, return_std=True)
        return self._values(mean), std.numpy() * self.outputs.unit[0]

    def limits(
        self, directions: Float[np.ndarray, "m d"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """What predictions go to along rays from the training rows' mean.

        Args:
            directions: In standard deviations of each feature; t counts multiples.

        Returns:
            Degrees p, and the limits of prediction / t^p; both are not numbers for the
            direction 0.
        """
        degrees, limits = np.full((2, len(directions)), np.nan)
        there = np.flatnonzero(np.abs(directions).max(axis=1) > 0)
        rays = torch.from_numpy(directions[there])
        for part in tiles(rays, len(self.fit.support)):
            degree, coefficient = limits_along(self.fit, rays[part])
            values = coefficient[:, 0] * self.outputs.unit[0]
            degrees[there[part]] = degree
            limits[there[part]] = values + np.where(degree == 0, self.outputs.shift[0], 0.0)
        return degrees, limits

    def _values(self, standard: Tensor) -> np.ndarray:
        return self.outputs.undo(standard.numpy())[:, 0]


def training_rows(prepared: Prepared, wanted: int | None, seed: int) -> Int[np.ndarray, " n"]:
    """All rows of a table, or a random part of them in their order."""
    count = len(prepared.target)
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted])


def kernels(settings: Settings, features: int) -> tuple[Kernel, Kernel | None]:
    """The kernel to predict with, and the prior covariance of an ensemble if one is asked for.

    Raises:
        SettingsError: A network that there is not.
    """
    normed = settings.norm != "none"
    model = mlp(
        features, [_WIDTH] * settings.hidden, 1, activation=settings.activation,
        norm="layer" if normed else None, norm_at=settings.norm if normed else "every",
    )  # fmt: skip
    limit = infinite_width(model.eval(), settings.weight_var, settings.bias_var)
    kernel = limit.ntk if settings.kernel == "ntk" else limit.nngp
    return kernel, limit.nngp if settings.std == "ensemble" else None


def fit_table(
    prepared: Prepared, rows: Int[np.ndarray, " n"], chosen: Chosen, settings: Settings
) -> Fitted:
    """Fit the regression to some rows of a table.

    Raises:
        SingularKernelError: Without a ridge, if rows are too much alike.
    """
    inputs, outputs, x, y = _standardised(prepared, rows)
    kernel, prior = kernels(settings, x.shape[1])
    try:
        fit = KernelRegression(kernel, chosen.ridge, prior, solver="cholesky").fit(x, y)
    except SingularKernelError as error:
        found = str(error).partition(" What helps:")[0]
        raise SingularKernelError(f"{found} Give a larger ridge, such as --ridge 1e-4.") from error
    return Fitted(fit, inputs, outputs, rows, chosen)


def choose_ridge(prepared: Prepared, rows: Int[np.ndarray, " n"], settings: Settings) -> Chosen:
    """The ridge with the smallest leave-one-out error, or the error of the one asked for.

    Each of up to 2,000 random rows is predicted from all others of them, for every ridge at once;
    equal rows are left out together.

    Raises:
        SettingsError: There is one distinct row, and no ridge is given.

    Source: Rasmussen and Williams (2006), equation 5.12.
    """
    if settings.ridge == 0.0:
        return Chosen(0.0, 0.0, 0, False)
    some = np.random.default_rng(settings.seed).permutation(rows)[:RIDGE_ROWS]
    _, outputs, x, y = _standardised(prepared, some)
    merged = merge_duplicates(x, y)
    if len(merged.x) == 1:
        if settings.ridge is None:
            raise SettingsError(
                "All training rows have the same features, so that none can be left out to choose "
                "the ridge; give one, such as --ridge 0.01."
            )
        return Chosen(settings.ridge, 0.0, 0, False)
    ridges = RIDGES if settings.ridge is None else (settings.ridge,)
    path = RidgePath(kernels(settings, x.shape[1])[0], x, y, ridges)
    counts = torch.from_numpy(merged.counts)[:, None]
    # Of each row: that of the mean target of its duplicates, and how far it is from that mean.
    within = y.square().sum() - (counts * merged.y.square()).sum()
    errors = (((counts * path.leave_one_out().square()).sum((1, 2)) + within) / len(some)).numpy()
    best = int(errors.argmin())
    error = float(np.sqrt(max(errors[best], 0.0)) * outputs.unit[0])
    return Chosen(ridges[best], error, len(some), len(ridges) > 1 and best in (0, len(ridges) - 1))


def _standardised(
    prepared: Prepared, rows: Int[np.ndarray, " n"]
) -> tuple[Scale, Scale, Tensor, Tensor]:
    features, target = prepared.features[rows], prepared.target[rows, None]
    inputs, outputs = Scale.of(features), Scale.of(target)
    return (
        inputs,
        outputs,
        torch.from_numpy(inputs.apply(features)),
        torch.from_numpy(outputs.apply(target)),
    )
