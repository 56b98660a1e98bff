"""Kernel regression as a scikit-learn estimator; importing this needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from farfield.errors import MissingExtraError
from farfield.infinite import infinite_width
from farfield.networks import Activation, NormAt, mlp
from farfield.regression.kernel_regression import KernelRegression

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise MissingExtraError(
        "NTKRegressor is a scikit-learn estimator, and scikit-learn 1.6 or newer is not installed; "
        "install it with: pip install 'farfield[tabular]'. KernelRegression needs no extra."
    ) from missing


class NTKRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A multilayer perceptron of infinite width, trained to convergence.

    It is :class:`farfield.KernelRegression` with the neural tangent kernel of
    :func:`farfield.mlp`. Scale the features first (``StandardScaler`` in a pipeline), as for any
    network. The target is not centred: far from the data a network with a norm stays bounded, and
    without data it predicts 0.

    Args:
        hidden: Hidden widths; in the limit only how many there are matters.
        activation: As for :func:`farfield.mlp`.
        norm: ``None``, ``"layer"`` or ``"rms"``.
        norm_at: Where the norm stands: ``"first"``, ``"last"``, ``"every"``, or layer indices.
        ridge: What is added to the diagonal of the kernel matrix; 0 interpolates.
        weight_var: Weights are N(0, weight_var / fan_in).
        bias_var: Biases are N(0, bias_var).

    Attributes:
        fit_: The fitted :class:`farfield.regression.KernelFit`, to be certified.
        n_features_in_: Number of features.

    Example:
        >>> import numpy as np, farfield as ff
        >>> x = np.linspace(-2, 2, 30)[:, None]
        >>> model = ff.NTKRegressor(hidden=(64, 64), ridge=1e-6).fit(x, np.sin(x[:, 0]))
        >>> model.predict([[0.5], [1e6]]).round(2).tolist()
        [0.48, 0.91]
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        activation: Activation = "relu",
        norm: str | None = "layer",
        norm_at: NormAt = "first",
        ridge: float | int = 1e-3,
        weight_var: float | int = 2.0,
        bias_var: float | int = 0.01,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.norm = norm
        self.norm_at = norm_at
        self.ridge = ridge
        self.weight_var = weight_var
        self.bias_var = bias_var

    def fit(self, X: Any, y: Any) -> NTKRegressor:  # noqa: N803 - scikit-learn's name
        """Solve for the coefficients.

        Args:
            X: Features, (n, d).
            y: Targets, (n,) or (n, outputs).

        Returns:
            This estimator.

        Raises:
            SettingsError: A setting that is not allowed.
            SingularKernelError: See :meth:`farfield.KernelRegression.fit`.
        """
        features, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True
        )
        outputs = 1 if targets.ndim == 1 else targets.shape[1]
        model = mlp(
            features.shape[1], self.hidden, outputs,
            activation=self.activation, norm=self.norm, norm_at=self.norm_at,
        )  # fmt: skip
        limit = infinite_width(model.eval(), float(self.weight_var), float(self.bias_var))
        regression = KernelRegression(limit.ntk, self.ridge, limit.nngp)
        self.fit_ = regression.fit(_tensor(features), _tensor(targets))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:  # noqa: N803
        """Predictions, and the standard deviation over an ensemble of trained networks.

        Args:
            X: Features, (m, d).
            return_std: Whether to return standard deviations too.

        Returns:
            Predictions in the shape of the targets; with ``return_std`` also an array (m,).
        """
        check_is_fitted(self)
        features = validate_data(self, X, dtype=np.float64, reset=False)
        predicted = self.fit_.predict(_tensor(features), return_std)
        if isinstance(predicted, tuple):
            return predicted[0].numpy(), predicted[1].numpy()
        return predicted.numpy()


def _tensor(values: Any) -> torch.Tensor:
    """A copy as a tensor: scikit-learn's arrays can be read-only."""
    return torch.from_numpy(np.array(values, dtype=np.float64))
