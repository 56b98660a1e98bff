"""Functions that draw random numbers, which no reading of a model can follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

from farfield.reading import AbstractTensor, RuleTable, name_of

# Functions that draw random numbers, and those that do in training mode.
_RANDOM = {
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "gumbel_softmax",
    "log_normal_", "multinomial", "normal", "normal_", "poisson", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "random_", "randperm", "uniform_",
}  # fmt: skip
_RANDOM_IN_TRAINING = {
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
    "rrelu",
}  # fmt: skip


class NothingRandom(TorchFunctionMode):
    """Refuses functions that draw random numbers, in this thread, before they draw any.

    Args:
        rules: The rules of the reading, whose error it is.
        instead: What the error says beside the name of the function.
    """

    def __init__(self, rules: RuleTable, instead: str) -> None:
        super().__init__()
        self._rules = rules
        self._instead = instead

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run everything else."""
        options, name = dict(kwargs or {}), name_of(func)
        ruled = any(isinstance(value, AbstractTensor) for value in args)
        trains = bool(options.get("training")) and name in _RANDOM_IN_TRAINING and not ruled
        if trains or name in _RANDOM:
            raise self._rules.unsupported(f"random numbers in forward ({name})", self._instead)
        return func(*args, **options)
