"""A diagnosis of a network: can tangent-kernel theory be trusted for it?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from farfield.diagnosis import against, flow, spread
from farfield.diagnosis.draws import Draws, side_by_side
from farfield.diagnosis.result import Diagnosis
from farfield.diagnosis.verdict import verdict
from farfield.errors import RangeError, SettingsError

_INPUTS = 4  # at which T(x, x) is followed over all draws
_POINTS = 16  # at which matrices are computed: 120 pairs
_FLOWS = 32  # draws whose gradients are followed back
_MATRICES = 8  # draws whose kernel matrix is set against infinite width
_TRAINING_ROWS = 256

Progress = Callable[[str, int], Callable[[int], None]]


# A forward that draws random numbers is refused only once it has drawn some.
@torch.random.fork_rng(devices=[])
def diagnose(
    model: nn.Module | Callable[[], nn.Module],
    x: Shaped[Tensor, "n *features"],
    y: Shaped[Tensor, "rows *outputs"] | None = None,
    *,
    draws: int = 200,
    steps: int = 100,
    learning_rate: float | int = 1e-3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    r"""Whether tangent-kernel theory describes networks of this architecture and draw.

    Networks are drawn anew many times. Of their tangent kernels T(x, x) (standard parametrisation,
    mean over the outputs) it tells the dispersion ``E[T^2] / E[T]^2``; of their gradients, how they
    grow or shrink from layer to layer; of their kernel matrices, how they agree with the exact one
    of infinite width; and with targets, how much one changes in a short training. The first of
    these that theory cannot bear decides the verdict.

    **How networks are drawn.** A function is called again for each draw (if it seeds itself, so
    that two calls give the same network, that counts as a model). Of a model every module
    is drawn by the variances that :func:`farfield.gaussian_init_` remembers, else by its
    ``reset_parameters()``, else by Gaussians as large as the entries of its matrices are. So a
    model that was initialised by hand must be given as the function that does it. Frozen modules
    stay. The networks run in eval mode; the model itself is not changed.

    Args:
        model: A module, or a function without arguments that makes and initialises one.
        x: Inputs (n, *features) of the kind that the network is for; a random choice of 4 is
            followed over all draws, of 16 for matrices, and of 256 for training.
        y: Targets (n,) or (n, outputs); whole numbers (n,) name classes.
        draws: Number of networks.
        steps: Steps of full-batch Adam on mean squared error.
        learning_rate: Its rate.
        seed: Of draws and choices.
        progress: Called with the name of a stage and its number of steps; returns a function that
            is called with the number done.

    Returns:
        The diagnosis; print it, or look at its parts, ``table()`` and ``as_dict()``.

    Raises:
        SettingsError: Inputs, targets, counts or a model that cannot be used.
        RangeError: A kernel, a gradient or the loss is not finite, or all kernels are zero.
        UnsupportedOperation: The outputs of one input depend on others of the batch, are drawn at
            random, or are no tensors.

    Source: Seleznova and Kutyniok, "Analyzing Finite Neural Networks: Can We Trust Neural Tangent
    Kernel Theory?" (MSML 2021) and "Neural Tangent Kernel Beyond the Infinite-Width Limit" (ICML
    2022); thresholds are ours (:mod:`farfield.diagnosis.verdict`).

    Example:
        >>> import torch, farfield as ff
        >>> model = ff.gaussian_init_(ff.mlp(3, [8] * 6, 1), weight_var=2.5, bias_var=0.0)
        >>> print(ff.diagnose(model, torch.eye(3), draws=20).verdict)
        kernel random at initialisation: one draw says little
    """
    for name, value in (("draws", draws), ("steps", steps)):
        if value < 2:
            raise SettingsError(f"{name} is {value}; it must be at least 2.")
    if not 0.0 < learning_rate < float("inf"):
        raise SettingsError(f"learning_rate is {learning_rate}; it must be finite and above 0.")
    if seed < 0:
        raise SettingsError(f"seed is {seed}; it must be at least 0.")
    drawn = Draws(model, seed)
    rows = _inputs(x, drawn)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    rows = rows[order]
    outputs = _outputs(drawn.network(0), rows)
    targets = None
    if y is not None:
        if not isinstance(y, Tensor):
            raise SettingsError(f"y is a {type(y).__name__}; it must be a tensor.")
        targets = against.targets_of(y, outputs, len(rows)).to(drawn.like)[order]
        _trainable(drawn.network(0), rows[:_TRAINING_ROWS], targets[:_TRAINING_ROWS])
    stage = progress or _silent
    followed, points = rows[:_INPUTS], rows[:_POINTS]
    values = spread.kernels(drawn, followed, outputs, draws, stage("drawing networks", draws))
    shape, gradients = flow.gradients(
        drawn, points, min(draws, _FLOWS), stage("following gradients", min(draws, _FLOWS))
    )
    dispersion = spread.dispersion(values, *spread.predicted(drawn.network(0), followed), seed)
    matrices = min(draws, _MATRICES)
    agreement = against.agreement(drawn, points, matrices, stage("comparing kernels", matrices))
    training = None
    if targets is not None:
        alive = int(np.flatnonzero(values.any(1))[0])
        training = against.train(
            drawn.network(alive),
            rows[:_TRAINING_ROWS],
            targets[:_TRAINING_ROWS],
            points,
            steps,
            float(learning_rate),
            stage("training", steps),
        )
    first = torch.from_numpy(values[:, 0])
    return Diagnosis(
        *verdict(dispersion, gradients, training),
        drawn.source,
        len(shape.layers),
        shape.depth_to_width,
        dispersion,
        gradients,
        agreement,
        training,
        first[first > 0].log(),
    )


def _silent(name: str, steps: int) -> Callable[[int], None]:
    return lambda done: None


def _inputs(x: object, drawn: Draws) -> Tensor:
    if not isinstance(x, Tensor):
        raise SettingsError(f"x is a {type(x).__name__}; it must be a tensor (n, *features).")
    if x.ndim < 1 or len(x) == 0:
        raise SettingsError(
            f"x has shape {tuple(x.shape)}; it must be (n, *features), n at least 1."
        )
    x = x.detach().to(drawn.like.device)
    if x.is_complex():
        raise SettingsError(f"x is {x.dtype}; inputs must be real or whole numbers.")
    if not x.is_floating_point():
        return x
    if not bool(x.isfinite().all()):
        raise SettingsError("x holds numbers that are NaN or infinite.")
    return x.to(drawn.like.dtype)


def _outputs(network: nn.Module, x: Tensor) -> int:
    """How many outputs there are for each input."""
    try:
        with torch.no_grad():
            result = network(x[:1])
    except (RuntimeError, IndexError, ValueError) as error:
        told = " ".join(str(error).split())
        whole = "" if x.is_floating_point() else " If it takes real numbers, give x as floats."
        raise SettingsError(
            f"The model does not take inputs of shape {tuple(x.shape[1:])} and type {x.dtype}: "
            f"{told}{whole}"
        ) from error
    return side_by_side(result, 1).shape[1]


def _trainable(network: nn.Module, x: Tensor, y: Tensor) -> None:
    with torch.no_grad():
        loss = against.loss_of(network, x, y)
    if not bool(loss.isfinite()):
        raise RangeError(
            f"The mean squared error of a network before training is {loss.item()} in {y.dtype}; "
            "scale inputs and targets to about 1, or give the model in float64 (model.double())."
        )
