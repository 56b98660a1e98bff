"""The kernels of finite networks against the infinite-width one, and after a short training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.diagnosis.draws import Draws, side_by_side
from farfield.diagnosis.result import Agreement, Training
from farfield.empirical import empirical_ntk
from farfield.errors import FarfieldError, RangeError, SettingsError
from farfield.infinite import infinite_width


def agreement(draws: Draws, x: Tensor, count: int, done: Callable[[int], None]) -> Agreement:
    """Correlations over pairs of different inputs, where the infinite-width limit is known."""
    if len(x) < 3:
        return _none(f"{len(x)} inputs have too few pairs; give at least 3")
    if not x.is_floating_point():
        return _none("the infinite-width reading takes inputs that are real numbers")
    rows, columns = torch.triu_indices(len(x), len(x), 1)
    network = draws.network(0).double()
    try:
        limit = infinite_width(network, parameterization="standard").ntk(x.double())
    except FarfieldError as error:
        return _none(" ".join(str(error).split()))
    exact = limit[rows, columns].double().cpu()
    finite = []
    for number in range(count):
        kernel = empirical_ntk(draws.network(number))(x)
        finite.append(kernel.detach()[rows, columns].double().cpu())
        done(number + 1)
    values = [_correlation(one, exact) for one in finite]
    known = sorted(value for value in values if math.isfinite(value))
    if not known:
        return _none("the kernel is the same for all pairs of these inputs")
    return Agreement(
        float(torch.tensor(known, dtype=torch.float64).median()),
        (known[0], known[-1]),
        None,
        tuple(finite[0].tolist()),
        tuple(exact.tolist()),
    )


def _none(why: str) -> Agreement:
    return Agreement(None, None, why, (), ())


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 0 else math.nan


def targets_of(y: Tensor, outputs: int, rows: int) -> Tensor:
    """Targets as (n, outputs): numbers, or classes as one-hot vectors.

    Raises:
        SettingsError: They do not fit.
    """
    if len(y) != rows:
        raise SettingsError(f"There are {len(y)} targets for {rows} inputs.")
    if y.is_complex():
        raise SettingsError(f"y is {y.dtype}; targets must be real numbers, or classes.")
    if y.ndim == 1 and outputs > 1 and not y.is_floating_point():
        if int(y.min()) < 0 or int(y.max()) >= outputs:
            raise SettingsError(
                f"The classes in y go from {int(y.min())} to {int(y.max())}, but the model has "
                f"{outputs} outputs: classes must be from 0 to {outputs - 1}."
            )
        return F.one_hot(y.long(), outputs)
    flat = y.reshape(rows, -1)
    if flat.shape[1] != outputs:
        raise SettingsError(
            f"The model has {outputs} outputs for each input, and y {flat.shape[1]} numbers; give "
            "one for each output, or whole numbers that name classes."
        )
    if not bool(flat.isfinite().all()):
        raise SettingsError("y holds numbers that are NaN or infinite.")
    return flat


def loss_of(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error."""
    return (side_by_side(network(x), len(x)) - y).square().mean()


def train(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    probe: Tensor,
    steps: int,
    learning_rate: float,
    done: Callable[[int], None],
) -> Training:
    """Full-batch Adam on mean squared error; the kernel at the probe set before and after."""
    before = empirical_ntk(network)(probe).detach().double()
    optimizer = torch.optim.Adam(
        [p for p in network.parameters() if p.requires_grad], lr=learning_rate
    )
    losses = []
    with torch.enable_grad():
        for step in range(steps):
            loss = loss_of(network, x, y)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done(step + 1)
    with torch.no_grad():
        last = loss_of(network, x, y).item()
    try:
        after = empirical_ntk(network)(probe).detach().double()
    except RangeError:
        return Training(steps, learning_rate, losses[0], math.inf, math.inf, 1.0)
    change = float((after - before).norm() / before.norm())
    # 1 - cosine without cancellation; a kernel that has died has no direction.
    apart = after / after.norm() - before / before.norm()
    distance = float(apart.square().sum()) / 2 if bool((after != 0).any()) else 1.0
    return Training(steps, learning_rate, losses[0], last, change, distance)
