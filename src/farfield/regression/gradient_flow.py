"""Training by gradient descent, in the limit where the tangent kernel stays as it is."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from farfield.errors import ConditioningWarning, SettingsError, TrainingError
from farfield.kernel import Kernel
from farfield.regression.duplicates import Merged, merge_duplicates
from farfield.regression.kernel_regression import check_finite
from farfield.regression.losses import SQUARED, Loss, gradient, loss_function
from farfield.regression.matrices import (
    check_inputs,
    check_points,
    cross_matrix,
    tiles,
    train_matrix,
)
from farfield.regression.spectral import Modes, modes_of

Initial = Callable[[Tensor], Tensor]

_NOISE = 1e-8  # what an eigenvalue that is all rounding may add, relative to its part of the target
_VISIBLE = 1e-6  # the part of the target that must not be lost without a warning
_TOLERANCE = 1e-8  # of the differential equation, relative


class GradientFlow:
    r"""A network of constant tangent kernel, trained for any time.

    On a loss L of the outputs at the training points, gradient flow moves the function by
    ``df(x)/dt = -k(x, X) dL/df(X)``. For squared losses this is linear, and solved exactly: with
    the eigenvalues l of K and the factor c of the gradient,

    ``f(x, t) = f0(x) + k(x, X) V (1 - exp(-c l t)) / l V' (y - f0(X))``.

    Time is that of gradient flow with respect to parameters: k steps of plain gradient descent with
    step size s (PyTorch's ``lr``) are about the time k s, and exactly ``steps=k, step_size=s``.

    Args:
        kernel: The tangent kernel; with ``parameterization="standard"`` of the network that one
            trains, since time is scaled by it.
        x: Training inputs.
        y: Targets, (n,) or (n, outputs); for ``"cross_entropy"`` class indices (n,) with
            ``classes``, or probabilities (n, classes).
        loss: ``"mse"``, the mean of ``(f - y)^2`` over all points and outputs as torch.nn.MSELoss
            has it (c = 2 / (n outputs)); ``"half_sum"``, ``1/2 sum (f - y)^2`` as in most
            papers (c = 1); ``"cross_entropy"``, torch.nn.functional.cross_entropy; or a function
            of outputs and targets that returns a number. All but the first two are solved
            numerically.
        initial: The function at time 0, such as a network in evaluation mode, of which a copy is
            kept; 0 when ``None``.
        classes: Number of classes, for class indices.
        kernel_dtype: The dtype in which the kernel gets its inputs. All else is float64.

    Raises:
        SettingsError: An unknown loss, shapes that do not fit, or inputs that are not finite.
        DataError: Targets that are not finite.
        RangeError: A kernel that is not finite.

    Source: Jacot, Gabriel and Hongler (2018), section 5; Lee et al., "Wide Neural Networks of Any
    Depth Evolve as Linear Models Under Gradient Descent" (2019), equations 8 to 11.

    Example:
        >>> import torch, farfield as ff
        >>> linear = ff.Kernel(lambda a, b: a @ b.T, lambda a: a.square().sum(-1))
        >>> x = torch.tensor([[1.0]], dtype=torch.float64)
        >>> flow = ff.GradientFlow(linear, x, 3 * x, loss="half_sum")
        >>> flow.predict(2 * x, time=math.log(2)).item(), flow.predict(2 * x).item()
        (3.0, 6.0)
        >>> flow.predict(2 * x, steps=2, step_size=0.5).item(), flow.largest_stable_step
        (4.5, 2.0)
    """

    def __init__(
        self,
        kernel: Kernel,
        x: Shaped[Tensor, "n *features"],
        y: Shaped[Tensor, "n_targets *outputs"],
        loss: Loss = "mse",
        initial: Initial | None = None,
        classes: int | None = None,
        kernel_dtype: torch.dtype = torch.float64,
    ) -> None:
        self._loss = loss_function(loss)
        check_inputs(x)
        self.kernel = kernel
        self.loss = loss
        # A copy, because the network itself may be trained before the first prediction.
        self._initial = copy.deepcopy(initial) if isinstance(initial, nn.Module) else initial
        self._dtype = kernel_dtype
        self._flat = y.ndim == 1 and loss != "cross_entropy"
        self._x = x.detach()
        self._y = check_points(x, y)
        if loss == "cross_entropy" and y.ndim == 1:
            self._y = _one_hot(y, classes)

    def predict(
        self,
        x: Shaped[Tensor, "m *features"],
        time: float | int | Sequence[float | int] | Tensor | None = None,
        *,
        steps: int | None = None,
        step_size: float | int | None = None,
    ) -> Float[Tensor, "*times m *outputs"]:
        """The function at new inputs after some training.

        Args:
            x: New inputs.
            time: How long gradient flow runs: from 0 to infinity (the default, for squared losses);
                several times give one prediction each, along a new first dimension.
            steps: Steps of gradient descent, in place of a time.
            step_size: Their size; for squared losses below :attr:`largest_stable_step`.

        Returns:
            Predictions in float64, (m,) or (m, outputs) as the targets.

        Raises:
            SettingsError: A time or step that is not allowed, or both; an infinite time for a loss
                without a closed form.
            RangeError: A prediction beyond the range of float64.
            TrainingError: The differential equation cannot be solved to the end.

        Warns:
            ConditioningWarning: A part of the targets belongs to eigenvalues that the kernel's
                precision does not tell from 0: it is left as it was at the start.
        """
        check_inputs(x, self._x)
        many = isinstance(time, Sequence) or (isinstance(time, Tensor) and time.ndim > 0)
        if steps is None:
            if step_size is not None:
                raise SettingsError("step_size is the size of steps; give steps as well.")
            coefficients = self._after(_times(math.inf if time is None else time))
        elif time is not None or step_size is None:
            raise SettingsError("Give either a time, or steps together with their step_size.")
        else:
            coefficients = self._after_steps(steps, float(step_size))[None]
        start = self._start(x)
        new, train = x.detach().to(self._dtype), self._train()
        result = np.empty((len(coefficients), len(x), self._y.shape[1]))
        for rows in tiles(new, len(train)):
            with np.errstate(over="ignore", invalid="ignore"):  # refused below, with the reason
                result[:, rows] = cross_matrix(self.kernel, new[rows], train) @ coefficients
        result += start.numpy()
        check_finite(result)
        if self._flat:
            result = result[..., 0]
        return torch.from_numpy(result if many else result[0]).to(x.device)

    @property
    def largest_stable_step(self) -> float:
        """``2 / (c largest eigenvalue)``: gradient descent with larger steps diverges.

        Raises:
            SettingsError: The loss has no closed form.
        """
        rate = self._rate()
        if rate is None:
            raise SettingsError(
                f"The largest stable step is known for the losses {' and '.join(SQUARED)}; the "
                f"one of {self.loss!r} changes with the outputs."
            )
        largest = float(self._modes.values[-1])
        return math.inf if largest == 0.0 else 2.0 / (rate * largest)

    def _rate(self) -> float | None:
        """c, for squared losses."""
        if isinstance(self.loss, str) and self.loss in SQUARED:
            return SQUARED[self.loss](*self._y.shape)
        return None

    @cached_property
    def _merged(self) -> Merged:
        return merge_duplicates(self._x.to(self._dtype), self._y)

    @cached_property
    def _modes(self) -> Modes:
        return modes_of(self.kernel, self._merged, self._dtype)

    @cached_property
    def _matrix(self) -> np.ndarray:
        return train_matrix(self.kernel, self._x.to(self._dtype), self._dtype)

    def _train(self) -> Tensor:
        """The inputs that coefficients belong to."""
        return self._x.to(self._dtype) if self._rate() is None else self._merged.x

    def _start(self, x: Tensor) -> Tensor:
        """The function at time 0, (m, outputs)."""
        if self._initial is None:
            return torch.zeros(len(x), self._y.shape[1], dtype=torch.float64)
        with torch.no_grad():
            values = self._initial(x).to("cpu", torch.float64)
        if values.numel() != len(x) * self._y.shape[1]:
            raise SettingsError(
                f"The initial function gives shape {tuple(values.shape)} for {len(x)} inputs; "
                f"the targets have {self._y.shape[1]} outputs."
            )
        return values.reshape(len(x), self._y.shape[1])

    @cached_property
    def _parts(self) -> np.ndarray:
        """What is left to learn at time 0, of each eigenvector."""
        # Equal inputs start from the same value, so means of targets are all there is to know.
        targets = self._merged.y - self._start(self._merged.x.to(self._x.dtype))
        return self._modes.parts(targets.numpy())

    def _after(self, times: Sequence[float]) -> np.ndarray:
        """Coefficients of k(x, X) at each time, (times, points, outputs)."""
        rate = self._rate()
        if rate is None:
            return self._integrated(times)
        learned = [
            self._filtered(span, functools.partial(_learned, span))
            for span in (rate * time for time in times)
        ]
        return self._modes.coefficients(np.stack(learned))

    def _after_steps(self, steps: int, step_size: float) -> np.ndarray:
        whole = isinstance(steps, int) and steps >= 0
        if not whole or not 0.0 < step_size < math.inf:
            raise SettingsError(
                f"There are {steps} steps of size {step_size}; the number must be a whole one of "
                "at least 0 and the size positive and finite."
            )
        rate = self._rate()
        if rate is None:
            return self._descended(steps, step_size)
        if step_size >= self.largest_stable_step:
            raise SettingsError(
                f"Steps of size {step_size:.6g} make gradient descent diverge; the largest stable "
                f"step is {self.largest_stable_step:.6g}."
            )

        def learned(values: np.ndarray) -> np.ndarray:
            kept = 1.0 - rate * step_size * values
            small = rate * step_size * values < 0.5
            smooth = -np.expm1(steps * np.log1p(-np.where(small, 1.0 - kept, 0.0)))
            return np.where(small, smooth, 1.0 - kept**steps)

        return self._modes.coefficients(self._filtered(rate * step_size * steps, learned))

    def _filtered(self, span: float, learned: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The parts times ``learned(l) / l``, which is at most ``span``, its limit for l -> 0."""
        values, resolved = self._modes.values, self._modes.resolved
        safe = np.where(resolved, values, 1.0)
        factor = np.where(resolved, learned(safe) / safe, 0.0)
        if not resolved.all():
            rounding = float(torch.finfo(self._dtype).eps)
            if span * rounding * max(values[-1], rounding) <= _NOISE:
                # Too early for these to have learned anything but the first term of their series.
                factor = np.where(resolved, factor, span)
            else:
                self._warn_of_lost_parts(~resolved)
        result: np.ndarray = factor[:, None] * self._parts
        return result

    def _warn_of_lost_parts(self, lost: np.ndarray) -> None:
        share = float(np.linalg.norm(self._parts[lost])) / max(
            float(np.linalg.norm(self._parts)), 1e-300
        )
        if share > _VISIBLE:
            warnings.warn(
                f"{int(lost.sum())} of the {len(lost)} eigenvalues of the kernel are not told from "
                f"0 in {self._dtype}, and {share:.1e} of the targets belongs to them: it counts "
                "as never learned. A ridge (KernelRegression), biases in the network, or a kernel "
                "in float64 resolves them.",
                ConditioningWarning,
                stacklevel=5,
            )

    def _descended(self, steps: int, step_size: float) -> np.ndarray:
        """Coefficients after steps of gradient descent, on any loss."""
        matrix, start = torch.from_numpy(self._matrix), self._start(self._x)
        coefficients = torch.zeros_like(self._y)
        for _ in range(steps):
            outputs = start + matrix @ coefficients
            coefficients -= step_size * gradient(self._loss, outputs, self._y)
        return coefficients.numpy()

    def _integrated(self, times: Sequence[float]) -> np.ndarray:
        """Coefficients at each time, on any loss: ``da/dt = -dL/df (f0(X) + K a)``."""
        if not all(math.isfinite(time) for time in times):
            raise SettingsError(
                f"The loss {self.loss!r} has no closed form, and its flow need not have a limit; "
                "give a finite time."
            )
        matrix, start = torch.from_numpy(self._matrix), self._start(self._x)

        def slope(_: float, flat: np.ndarray) -> np.ndarray:
            outputs = start + matrix @ torch.from_numpy(flat).reshape(self._y.shape)
            slopes: np.ndarray = -gradient(self._loss, outputs, self._y).numpy().ravel()
            return slopes

        ends, places = np.unique(np.asarray(times, dtype=float), return_inverse=True)
        if ends[-1] == 0.0:
            return np.zeros((len(times), *self._y.shape))
        solved: Any = solve_ivp(
            slope, (0.0, ends[-1]), np.zeros(self._y.numel()), t_eval=ends, rtol=_TOLERANCE,
            atol=_TOLERANCE * 1e-3,
        )  # fmt: skip
        if not solved.success:
            raise TrainingError(
                f"The differential equation of the training could not be solved up to time "
                f"{ends[-1]:g}: {solved.message} Ask for an earlier time, or for steps of gradient "
                "descent (steps, step_size)."
            )
        result: np.ndarray = solved.y.T.reshape(len(ends), *self._y.shape)[places]
        return result


def _learned(span: float, values: np.ndarray) -> np.ndarray:
    """What part of a mode gradient flow has learned."""
    result: np.ndarray = -np.expm1(-span * values)
    return result


def _times(time: float | int | Sequence[float | int] | Tensor) -> list[float]:
    values = time.flatten().tolist() if isinstance(time, Tensor) else time
    times = [float(t) for t in (values if isinstance(values, Sequence) else [values])]
    if not times:
        raise SettingsError("There are no times; give at least one.")
    for value in times:
        if not value >= 0.0:
            raise SettingsError(f"A time is {value}; times must be at least 0.")
    return times


def _one_hot(y: Tensor, classes: int | None) -> Tensor:
    """Class indices as probabilities."""
    if y.is_floating_point() or classes is None or classes < 2:
        raise SettingsError(
            "Targets of shape (n,) for the cross-entropy must be class indices (integers), and "
            f"classes their number; got {y.dtype} and classes={classes}."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise SettingsError(
            f"The class indices go from {low} to {high}; with {classes} classes they must lie "
            f"between 0 and {classes - 1}."
        )
    return torch.nn.functional.one_hot(y.cpu().long(), classes).double()
