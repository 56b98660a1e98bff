"""What a linearised Laplace posterior is asked to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

from farfield.errors import SettingsError
from farfield.uncertainty.likelihood import Likelihood, likelihood_of


@dataclass(frozen=True)
class LaplaceSettings:
    """What stays the same when prior precision and noise are tuned.

    Attributes:
        likelihood: ``"regression"`` or ``"classification"``.
        method: ``"exact"`` or ``"nystrom"``.
        inducing: M, for ``"nystrom"``.
        features: K, for ``"nystrom"``.
        seed: Of everything that is drawn.

    Raises:
        SettingsError: One of them is not allowed.
    """

    likelihood: str
    method: str
    inducing: int
    features: int
    seed: int

    def __post_init__(self) -> None:
        likelihood_of(self.likelihood)
        if self.method not in ("exact", "nystrom"):
            raise SettingsError(f"method is {self.method!r}; choose 'exact' or 'nystrom'.")
        check_counts(inducing=self.inducing, features=self.features)

    @property
    def law(self) -> Likelihood:
        """The likelihood itself."""
        return likelihood_of(self.likelihood)

    def check_variances(self, prior_precision: float | int, noise_var: float | int) -> None:
        """Refuse a prior precision or noise that mean nothing.

        Raises:
            SettingsError: One is not positive and finite, or classes are given noise.
        """
        for name, value in (("prior_precision", prior_precision), ("noise_var", noise_var)):
            if not 0.0 < value < math.inf:
                raise SettingsError(f"{name} is {value}; it must be positive and finite.")
        if self.likelihood == "classification" and noise_var != 1.0:
            raise SettingsError(
                f"noise_var is {noise_var}, but classes have no noise of their own; leave it out."
            )


def check_counts(**counts: object) -> None:
    """Refuse what does not count.

    Raises:
        SettingsError: A number is below 1, or not whole.
    """
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise SettingsError(f"{name} is {value!r}; it must be an integer of at least 1.")
