"""Watching the tangent kernel of a few samples while a network trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from farfield.empirical.inputs import Inputs, count
from farfield.empirical.kernel import empirical_ntk
from farfield.errors import MissingExtraError, RangeError, SettingsError


@dataclass(frozen=True)
class Moment:
    """The tangent kernel at one step of training.

    Attributes:
        step: The number of the step.
        distance: 1 - cosine between the kernel and the first one.
        eigenvalues: The largest ones of the kernel of all outputs, largest first.
        effective_rank: ``(tr K)^2 / |K|^2``, between 1 and the size of the kernel.
        alignment: ``y . K y / (|K| |y|^2)`` of the targets; ``None`` without targets.
        sharpness: Largest eigenvalue over the number of samples: the curvature of the mean over
            samples of ``|f - y|^2 / 2`` along the steepest direction, by Gauss and Newton.
        edge: ``2 / learning rate``, above which gradient descent is unstable; ``None`` if the rate
            is not known.
    """

    step: int
    distance: float
    eigenvalues: tuple[float, ...]
    effective_rank: float
    alignment: float | None
    sharpness: float
    edge: float | None


class NTKMonitor:
    """Follows the tangent kernel of a probe set during training.

    Call it after every optimiser step; every ``every`` steps it computes the kernel of the probe
    set, with dropout and batch statistics as in eval mode. The model, its gradients and the random
    numbers stay as they are.

    Args:
        model: The network.
        x: The probe set: a few dozen samples.
        targets: (n,) or (n, o), for the alignment.
        every: Steps between two measurements.
        top: How many eigenvalues are kept.
        memory: Budget, as of :func:`farfield.empirical_ntk`.

    Raises:
        SettingsError: ``every`` or ``top`` below 1, or targets of another length than the probe
            set, not finite or all zero.
        RangeError: The kernel of the probe set is zero, or not finite.

    Source: Fort et al., "Deep learning versus kernel learning" (2020) for the distance; Cristianini
    et al. (2001) for the alignment; Cohen et al. (2021) for the edge of stability.

    Example:
        >>> import torch, farfield as ff
        >>> model, x = ff.mlp(2, [8], 1), torch.ones(4, 2)
        >>> monitor = ff.NTKMonitor(model, x, every=2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> for _ in range(4):
        ...     loss = model(x).square().mean()
        ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
        ...     monitor(learning_rate=0.1)
        >>> [moment.step for moment in monitor.moments]
        [0, 2, 4]
    """

    def __init__(
        self,
        model: nn.Module,
        x: Inputs,
        targets: Tensor | None = None,
        *,
        every: int = 100,
        top: int = 5,
        memory: str | int = "2GB",
    ) -> None:
        for name, value in (("every", every), ("top", top)):
            if value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1.")
        if targets is not None and len(targets) != count(x):
            raise SettingsError(
                f"There are {len(targets)} targets for {count(x)} samples of the probe set."
            )
        if targets is not None and not 0 < float(targets.double().norm()) < float("inf"):
            raise SettingsError(
                "The targets are all zero, or not finite, so that nothing can be aligned with "
                "them; give one number for each output, such as one-hot classes."
            )
        self.moments: list[Moment] = []
        self._model, self._x, self._targets = model, x, targets
        self._every, self._top, self._memory = every, top, memory
        self._step = 0
        self._first = self._kernel()
        self._add(self._first, None)

    def __call__(self, learning_rate: float | None = None) -> None:
        """Count a step of training, and measure if it is time to.

        Args:
            learning_rate: The optimiser's, for the edge of stability.

        Raises:
            SettingsError: A negative learning rate.
            RangeError: The kernel has become zero, or is not finite.
        """
        if learning_rate is not None and not learning_rate >= 0:
            raise SettingsError(f"learning_rate is {learning_rate}; it must be at least 0.")
        self._step += 1
        if self._step % self._every == 0:
            self._add(self._kernel(), learning_rate)

    def table(self) -> pd.DataFrame:
        """One row for each measurement; eigenvalues in columns ``eigenvalue_1``, ..."""
        return pd.DataFrame([_row(moment) for moment in self.moments])

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on after an interruption: steps, measurements, first kernel."""
        moments = [asdict(moment) for moment in self.moments]
        return {"step": self._step, "first": self._first.clone(), "moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another monitor of the same probe set stopped.

        Args:
            state: Its ``state_dict()``.

        Raises:
            SettingsError: It is of another number of samples or outputs.
        """
        if state["first"].shape != self._first.shape:
            raise SettingsError(
                f"The state is of a kernel of shape {tuple(state['first'].shape)}, the probe set "
                f"has one of {tuple(self._first.shape)}; give the probe set that it is of."
            )
        self._step, self._first = state["step"], state["first"].to(self._first)
        self.moments = [
            Moment(**{**moment, "eigenvalues": tuple(moment["eigenvalues"])})
            for moment in state["moments"]
        ]

    def lightning(self) -> Any:
        """A callback for Lightning's ``Trainer`` that measures after steps of the optimiser.

        The trainer's loggers, if it has any, get each measurement as ``ntk/distance``,
        ``ntk/sharpness`` and so on. The trainer's checkpoints hold the measurements, so that a
        resumed training goes on with them.

        Returns:
            A ``lightning.pytorch.Callback``.

        Raises:
            MissingExtraError: Lightning is not installed.
        """
        try:
            from lightning.pytorch import Callback
        except ImportError as error:
            raise MissingExtraError(
                "NTKMonitor.lightning() needs Lightning, which is not installed; run "
                "pip install 'farfield[lightning]', or call the monitor in your own loop."
            ) from error
        monitor = self

        class Monitoring(Callback):  # type: ignore[misc]
            """Calls the monitor after each batch that ended with a step of an optimiser."""

            def __init__(self) -> None:
                self.logged = 0
                self.steps = 0

            def on_train_start(self, trainer: Any, *_: object, **__: object) -> None:
                self.steps = trainer.global_step
                self._log(trainer)

            def on_train_batch_end(self, trainer: Any, *_: object, **__: object) -> None:
                if trainer.global_step == self.steps:  # gradients are still being accumulated
                    return
                self.steps = trainer.global_step
                optimizers = trainer.optimizers
                rate = optimizers[0].param_groups[0]["lr"] if optimizers else None
                monitor(learning_rate=None if rate is None else float(rate))
                self._log(trainer)

            def state_dict(self) -> dict[str, Any]:
                return monitor.state_dict()

            def load_state_dict(self, state_dict: dict[str, Any]) -> None:
                monitor.load_state_dict(state_dict)
                self.logged = len(monitor.moments)

            def _log(self, trainer: Any) -> None:
                for moment in monitor.moments[self.logged :]:
                    for logger in trainer.loggers:
                        logger.log_metrics(_metrics(moment), step=moment.step)
                self.logged = len(monitor.moments)

        return Monitoring()

    def _kernel(self) -> Tensor:
        """(n o, n o) in float64."""
        with _in_eval_mode(self._model):
            full = empirical_ntk(self._model, outputs="full", memory=self._memory)(self._x)
        side = full.shape[0] * full.shape[1]
        return full.reshape(side, side).double()

    def _add(self, kernel: Tensor, learning_rate: float | None) -> None:
        values = torch.linalg.eigvalsh(kernel).flip(0)
        norm, first = kernel.norm(), self._first
        if not norm > 0:
            raise RangeError(
                "The kernel of the probe set is zero: no output of it changes with any parameter, "
                "as with units that are all switched off. Take other samples or other weights."
            )
        # 1 - cosine without its cancellation: half of the squared distance of the directions.
        distance = (kernel / norm - first / first.norm()).square().sum() / 2
        self.moments.append(
            Moment(
                self._step,
                distance.item(),
                tuple(values[: self._top].tolist()),
                (kernel.trace().square() / norm.square()).item(),
                self._alignment(kernel),
                values[0].item() / count(self._x),
                None if learning_rate is None else _edge(learning_rate),
            )
        )

    def _alignment(self, kernel: Tensor) -> float | None:
        if self._targets is None:
            return None
        y = self._targets.detach().to(kernel).reshape(-1)
        if len(y) != len(kernel):
            raise SettingsError(
                f"There are {len(y)} numbers in the targets and {len(kernel)} outputs of the probe "
                "set; give one target for each output, such as one-hot classes."
            )
        return float(y @ kernel @ y / (kernel.norm() * y.square().sum()))


def _edge(learning_rate: float) -> float:
    return 2.0 / learning_rate if learning_rate > 0 else float("inf")


def _row(moment: Moment) -> dict[str, Any]:
    row = asdict(moment)
    values = row.pop("eigenvalues")
    return row | {f"eigenvalue_{k}": value for k, value in enumerate(values, 1)}


def _metrics(moment: Moment) -> dict[str, float]:
    row = _row(moment)
    del row["step"]
    return {f"ntk/{name}": value for name, value in row.items() if value is not None}


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
