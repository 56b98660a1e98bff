"""One question to models and to fitted predictors: how large can the output get?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from torch import nn

from farfield.errors import SettingsError
from farfield.growth import Certificate, Effort, certify_model
from farfield.growth.domain import DomainChoice
from farfield.regression.bounds import FitCertificate, certify_fit
from farfield.regression.kernel_regression import KernelFit


@overload
def certify(
    thing: nn.Module,
    input_shape: Sequence[int] | None = None,
    domain: DomainChoice = None,
    effort: Effort | None = None,
) -> Certificate: ...


@overload
def certify(thing: KernelFit) -> FitCertificate: ...


def certify(
    thing: object,
    input_shape: Sequence[int] | None = None,
    domain: DomainChoice = None,
    effort: Effort | None = None,
) -> Certificate:
    r"""Prove how large an output can get over every input, or show how it grows.

    Of a model, ``|f(x)|`` is bounded by running its own ``forward`` on what can be said of each
    value for every input (:func:`farfield.growth.certify_model`). Of a predictor fitted with
    :class:`farfield.KernelRegression` it is bounded by ``sqrt(sup k(x, x)) sqrt(a' K a)``
    (:func:`farfield.regression.certify_fit`).

    Args:
        thing: A model in eval mode, or what ``KernelRegression.fit`` returns.
        input_shape: The shape of one input of a model, without the batch, where its first layer
            does not tell it.
        domain: Which inputs of a model: ``None`` for all; a pair (lower, upper); or a mapping from
            coordinates to such pairs. A fitted predictor is certified over all inputs.
        effort: How long to search for large outputs of a model.

    Returns:
        The certificate: ``bounded``, ``bound``, ``growth``, ``reason``, ``worst_found``. That of a
        fitted predictor is a :class:`farfield.regression.FitCertificate`, which knows more.

    Raises:
        SettingsError: Neither a model nor a fitted predictor; options that do not fit; or as
            :func:`farfield.growth.certify_model`.
        UnsupportedOperation: The model does something without a rule.

    Source: Ziomek, Whittle and Osborne, "Just One Layer Norm Guarantees Stable Extrapolation"
    (NeurIPS 2025); docs/certify.md and docs/regression.md have the proofs.

    Example:
        >>> import torch, farfield as ff
        >>> model = ff.mlp(1, [8, 8], 1, norm="layer").eval()
        >>> x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
        >>> fit = ff.KernelRegression(ff.infinite_width(model, 2.0, 0.1).ntk).fit(x, x.square())
        >>> for thing in (model, fit):
        ...     cert = ff.certify(thing)
        ...     print(cert.bounded, cert.worst_found.value <= cert.bound.largest)
        True True
        True True
    """
    if isinstance(thing, KernelFit):
        if not (input_shape is None and domain is None and effort is None):
            raise SettingsError(
                "input_shape, domain and effort are for models; a fitted predictor is certified "
                "over every input, so call certify(fit) alone."
            )
        return certify_fit(thing)
    if isinstance(thing, nn.Module):
        return certify_model(thing, input_shape, domain, effort)
    raise SettingsError(
        f"Found {type(thing).__name__}; certify takes a torch.nn.Module or what "
        "KernelRegression(...).fit(x, y) returns (of a fitted NTKRegressor its fit_)."
    )
