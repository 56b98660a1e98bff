"""What is observed of a network's outputs: real numbers with noise, or classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import SettingsError


@dataclass(frozen=True)
class Regression:
    """Targets are outputs plus independent Gaussian noise."""

    name: ClassVar[str] = "regression"

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        """The targets as (n, outputs) in float64.

        Raises:
            SettingsError: Another number of targets than of outputs.
        """
        flat = y.detach().reshape(len(y), -1).double()
        if flat.shape[1] != outputs:
            raise SettingsError(
                f"There are {flat.shape[1]} targets for each sample, and the model has {outputs} "
                f"outputs; give targets of shape (n, {outputs})."
            )
        return flat

    def roots(self, outputs: Tensor) -> Tensor | None:
        """Roots of the Hessians at noise 1: ``None``, because they are the identity."""
        return None

    def loss(self, outputs: Tensor, targets: Tensor) -> float:
        """The sum of squared errors."""
        return float((outputs.double() - targets).square().sum())

    def log_likelihood(self, loss: float, numbers: int, noise_var: float) -> float:
        """``-loss / (2 noise) - numbers log(2 pi noise) / 2``."""
        return -loss / (2.0 * noise_var) - numbers / 2.0 * math.log(2.0 * math.pi * noise_var)

    def predictive_loss(
        self, mean: Tensor, variances: Tensor, targets: Tensor, noise_var: float
    ) -> float:
        """Of Gaussians, mean over samples and sum over outputs."""
        total = variances + noise_var
        each = (mean.double() - targets).square() / total + (2.0 * math.pi * total).log()
        return float(each.sum() / (2.0 * len(mean)))


@dataclass(frozen=True)
class Classification:
    """Targets are classes, with the softmax of the outputs as probabilities."""

    name: ClassVar[str] = "classification"

    def targets(self, y: Tensor, outputs: int) -> Tensor:
        """The targets as (n,) indices.

        Raises:
            SettingsError: A model with a single output, or targets that are no indices of classes.
        """
        if outputs < 2:
            raise SettingsError(
                "The model has a single output; classification takes the softmax of at least two. "
                "Give two classes an output each: nn.Linear(width, 2)."
            )
        flat = y.detach()
        if flat.ndim == 2 and flat.shape[1] == 1:
            flat = flat[:, 0]
        if flat.ndim != 1 or flat.is_floating_point() or flat.is_complex():
            raise SettingsError(
                f"The targets are {flat.dtype} of shape {tuple(flat.shape)}; give the index of "
                "the class of each sample, of shape (n,), such as y.argmax(1) of one-hot targets."
            )
        flat = flat.long()
        if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= outputs):
            raise SettingsError(
                f"The targets are between {int(flat.min())} and {int(flat.max())}; classes of a "
                f"model with {outputs} outputs go from 0 to {outputs - 1}."
            )
        return flat

    def roots(self, outputs: Tensor) -> Tensor | None:
        """Roots of the Hessians ``diag(p) - p p'`` of the softmax p."""
        return softmax_roots(outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> float:
        """The sum of cross-entropies."""
        return float(F.cross_entropy(outputs.double(), targets, reduction="sum"))

    def log_likelihood(self, loss: float, numbers: int, noise_var: float) -> float:
        """``-loss``."""
        return -loss

    def predictive_loss(
        self, mean: Tensor, variances: Tensor, targets: Tensor, noise_var: float
    ) -> float:
        """Mean cross-entropy of the probit approximation."""
        return float(F.nll_loss(probit_logits(mean, variances).log_softmax(1), targets))


Likelihood = Regression | Classification
"""The law of a target given the outputs of the network."""


def likelihood_of(name: str) -> Likelihood:
    """The likelihood of this name.

    Raises:
        SettingsError: Another word.
    """
    if name == "regression":
        return Regression()
    if name == "classification":
        return Classification()
    raise SettingsError(f"likelihood is {name!r}; choose 'regression' or 'classification'.")


def softmax_roots(outputs: Float[Tensor, "n o"]) -> Float[Tensor, "n o r"]:
    r"""Roots of the Hessians of the softmax cross-entropy, one column short of square.

    ``Lambda = diag(p) - p p' = S (I - s s') S`` with ``s = sqrt(p)`` and ``S = diag(s)``. The
    columns of a Householder reflection that maps s to a unit vector, without the column of that
    vector, span the complement of s: L is S times these. With the unit vector of the largest
    probability m, and i, j other classes,

    ``L_ij = s_i (delta_ij - s_i s_j / (1 + s_m))``, ``L_mj = -s_m s_j``,

    where no difference of nearly equal numbers is left, however sure the network is.

    Args:
        outputs: Logits.

    Returns:
        L in float64, with r = o - 1 and ``L L' = Lambda``.
    """
    root = (outputs.double().log_softmax(1) / 2).exp()
    n, o = root.shape
    top = root.argmax(1, keepdim=True)
    classes = torch.arange(o, device=root.device).expand(n, o)
    others = classes[classes != top].view(n, o - 1)
    s, s_top = root.gather(1, others), root.gather(1, top)
    inner = torch.diag_embed(s) - (s.square() / (1.0 + s_top)).unsqueeze(2) * s.unsqueeze(1)
    found = root.new_zeros(n, o, o - 1)
    found.scatter_(1, others.unsqueeze(2).expand(n, o - 1, o - 1), inner)
    found.scatter_(1, top.unsqueeze(2).expand(n, 1, o - 1), -(s_top * s).unsqueeze(1))
    return found


def probit_logits(
    mean: Float[Tensor, "n o"], variances: Float[Tensor, "n o"]
) -> Float[Tensor, "n o"]:
    """Logits whose softmax approximates the mean of the softmax of Gaussian outputs.

    Args:
        mean: Of the outputs.
        variances: Of each output.

    Returns:
        ``mean / sqrt(1 + pi / 8 variance)``.

    Source: MacKay, "The Evidence Framework Applied to Classification Networks" (1992), for two
    classes; Daxberger et al., "Laplace Redux" (2021), appendix A.2, for several.
    """
    return mean.double() / (1.0 + math.pi / 8.0 * variances).sqrt()
