"""Certificates of a fitted predictor: how large it can get at any input at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from farfield.growth import Bound, Certificate, Escape, Growth
from farfield.growth.domain import domain_of
from farfield.infinite import KernelOf
from farfield.regression.kernel_regression import KernelFit
from farfield.regression.rays import Ray, along, limits_along
from farfield.regression.supremum import Supremum, supremum
from farfield.regression.worst import search

_DIRECTIONS = 32


@dataclass(frozen=True, eq=False)
class BoundForms:
    r"""Three upper bounds of ``sup_x |f(x)|`` for each output, with C = sup_x k(x, x).

    G = K + ridge is the matrix that was inverted, n its size, M = max |y|. Without a ridge each is
    at most the next one; with a large ridge ``linear`` can be below ``root``. The last two are of
    the exact solution; where the solver stops before it, ``sqrt(C)`` times the norm of what is
    missing is added to them.

    Attributes:
        norm: ``sqrt(C a' K a)`` with the coefficients a = G^{-1} y: the norm of f in the space
            of the kernel; without a ridge ``sqrt(C y' K^{-1} y)``. Rounding is added: it is a
            bound of the function with the coefficients as they were computed.
        root: ``sqrt(n C / lambda_min(G)) M``.
        linear: ``n C / lambda_min(G) M``.
    """

    norm: Float[Tensor, " outputs"]
    root: Float[Tensor, " outputs"]
    linear: Float[Tensor, " outputs"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FitCertificate(Certificate):
    """What is known of a fitted predictor at every input; made by :func:`certify_fit`.

    Its degree of growth is proven to be 0, or not proven: ``growth.found`` has what was seen.

    Attributes:
        kernel_bound: C, or what was found of it.
        forms: Three forms of the bound, if there is a C.
        smallest_eigenvalue: Of the matrix that was inverted; computed, to about 1 %, or for
            other solvers than Cholesky a lower bound, 0 if there is none.
        points: The number of distinct training points.
        fit: The predictor.
    """

    kernel_bound: Supremum
    forms: BoundForms | None
    smallest_eigenvalue: float
    points: int
    fit: KernelFit

    def along(self, direction: Float[Tensor, "*features"]) -> Ray:
        """The limit of the prediction along a ray, or its growth.

        Args:
            direction: Any input but 0.

        Returns:
            See :func:`farfield.regression.rays.along`.
        """
        return along(self.fit, direction)


def certify_fit(fit: KernelFit) -> FitCertificate:
    r"""Bound a fitted predictor over every input, or show how it grows.

    With the feature map psi of the kernel, ``f(x) = psi(x) . sum_i a_i psi(x_i)``, so by the
    inequality of Cauchy and Schwarz ``|f(x)| <= sqrt(k(x, x)) sqrt(a' K a)``. Where k(x, x) is
    bounded by C so is f, on any training set. Where it is not, directions are tried until f is
    seen to grow along one.

    Args:
        fit: The fitted predictor.

    Returns:
        The certificate.

    Source: Ziomek, Whittle and Osborne, "Just One Layer Norm Guarantees Stable Extrapolation"
    (NeurIPS 2025), theorems 3.1 to 3.3; the constants are derived in docs/regression.md.

    Example:
        >>> import torch, farfield as ff
        >>> x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
        >>> for norm in ("layer", None):
        ...     limit = ff.infinite_width(ff.mlp(1, [8, 8], 1, norm=norm), 2.0, 0.1)
        ...     cert = certify_fit(ff.KernelRegression(limit.ntk).fit(x, x.square()))
        ...     print(cert.verdict, cert.worst_found.value <= cert.bound.largest)
        bounded True
        grows, degree 1 True
    """
    train = fit.support
    top = supremum(fit.settings.kernel, tuple(train.shape[1:]))
    worst = search(fit, climb=top.value < math.inf)
    forms = _forms(fit, top.value) if top.value < math.inf else None
    bound = torch.full((fit.coefficients.shape[1],), torch.inf, dtype=torch.float64)
    growth = Growth(math.inf, (), None)
    bounded: bool | None = None
    if not fit.coefficients.any():
        bounded, bound, growth = True, torch.zeros_like(bound), Growth(0.0, (), None)
        reason = "All coefficients are 0, and so is the prediction everywhere."
    elif top.proven and forms is not None:
        bounded, growth = True, Growth(0.0, (), None)
        bound = torch.minimum(torch.minimum(forms.norm, forms.root), forms.linear)
        reason = (
            f"k(x, x) <= {top.value:.6g} for every input x, by {top.how}"
            f"{_norms(fit)}. So |f(x)| <= sqrt({top.value:.6g}) times the norm of f."
        )
    elif (escape := _steepest(fit)) is None:
        reason = (
            f"Nothing is proven: {top.how}. No direction was found along which the prediction "
            "grows."
        )
    else:
        bounded, growth = False, Growth(math.inf, (), escape)
        reason = (
            f"k(x, x) has no bound{_norms(fit)}, and along a ray the prediction grows like "
            f"|x|^{escape.degree:g}."
        )
    return FitCertificate(
        bounded, Bound(-bound, bound), growth, reason, worst, domain_of(None, train.shape[1:]),
        kernel_bound=top, forms=forms, smallest_eigenvalue=fit.smallest_eigenvalue,
        points=fit.solution.points, fit=fit,
    )  # fmt: skip


def bound_forms(
    size: float,
    eigenvalue: float,
    points: int,
    squared_norms: Float[Tensor, " outputs"],
    error_norms: Float[Tensor, " outputs"],
    largest: Float[Tensor, " outputs"],
) -> BoundForms:
    """The three forms from their ingredients.

    Args:
        size: C.
        eigenvalue: The smallest one of the matrix that was inverted; 0 if nothing is known.
        points: n.
        squared_norms: ``a' K a`` of each output.
        error_norms: The norm of what the function differs by from the exact solution.
        largest: M of each output.

    Returns:
        The bounds.
    """
    share = points * size / eigenvalue if eigenvalue else math.inf
    error = math.sqrt(size) * error_norms
    root, linear = (
        torch.where(largest > 0.0, factor * largest, 0.0) + error
        for factor in (math.sqrt(share), share)
    )
    return BoundForms((size * squared_norms).sqrt(), root, linear)


def _forms(fit: KernelFit, size: float) -> BoundForms:
    solution = fit.solution
    return bound_forms(
        size,
        solution.smallest_eigenvalue,
        solution.points,
        *map(
            torch.from_numpy,
            (solution.squared_norms, solution.error_norms, solution.largest_targets),
        ),
    )


def _steepest(fit: KernelFit) -> Escape | None:
    """Of many directions the one along which the prediction grows most, if it does in any."""
    train = fit.support.cpu().double()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(_DIRECTIONS, *train.shape[1:], dtype=torch.float64, generator=generator)
    through = train[:: max(1, len(train) // _DIRECTIONS)]
    directions = torch.cat([drawn, through, -through])
    lengths = directions.flatten(1).norm(dim=1)
    directions = directions[lengths > 0]
    lengths = directions.flatten(1).norm(dim=1).reshape(-1, *[1] * (directions.ndim - 1))
    degrees, coefficients = limits_along(fit, directions / lengths)
    sizes = np.abs(coefficients).max(1)
    growing = np.flatnonzero((degrees > 0) & (sizes > 0))
    if not len(growing):
        return None
    best = max(growing, key=lambda row: (degrees[row], sizes[row]))
    ray = along(fit, (directions / lengths)[best])
    output = int(ray.coefficient.abs().argmax())
    return Escape(
        ray.degree, float(ray.coefficient[output]), ray.direction, output, ray.scales,
        tuple(ray.predictions[:, output].tolist()),
    )  # fmt: skip


def _norms(fit: KernelFit) -> str:
    """The norms of the model behind the kernel, in words."""
    source = fit.settings.kernel.prepare
    if not isinstance(source, KernelOf):
        return ""
    named = [
        f"{type(module).__name__} {name!r}"
        for name, module in source.limit.model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
    ]
    return f" (norms of the model: {', '.join(named) if named else 'none'})"
