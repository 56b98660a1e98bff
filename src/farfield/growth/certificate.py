"""How large the output of a trained network can get: a proof over every input, or the way out."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from farfield.errors import AccuracyWarning, SettingsError
from farfield.growth import quadratic, rules
from farfield.growth.bound_tensor import RULES, BoundTensor, Reading
from farfield.growth.domain import Domain, DomainChoice, domain_of, input_shape_of
from farfield.growth.dual import refine
from farfield.growth.escape import Escape
from farfield.growth.evaluate import Evaluate, evaluator, tensors_of, wide_state
from farfield.growth.graph import Free, Node
from farfield.growth.intervals import largest
from farfield.growth.pieces import tighten
from farfield.growth.reasons import (
    highest_degree,
    route,
    why_bounded,
    why_unbounded,
    worst_output,
)
from farfield.growth.search import Effort, Found, Search
from farfield.randomness import NothingRandom
from farfield.replaced import run_with
from farfield.trail import following, readable

__all__ = ["Bound", "Certificate", "Growth", "certify_model", "rules"]

# The proof is about real numbers. Evaluating the model in float64 is off by less than this, unless
# a norm divides by a deviation that is 1e5 times smaller than the mean.
_EVALUATION = 1e-10
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class Bound:
    """Between what each output stays, for every input of the domain.

    Attributes:
        lower: Least value of each output, of the shape of one output; several outputs of a model
            stand one behind the other. Minus infinity where nothing is proven.
        upper: Largest value.
    """

    lower: Tensor
    upper: Tensor

    @property
    def largest(self) -> float:
        """No output is larger in absolute value."""
        return float(largest(self.lower, self.upper).max())


@dataclass(frozen=True, eq=False)
class Growth:
    """How fast the output can grow, and on which way.

    Attributes:
        degree: Proven: no output grows faster than |x|^degree; 0 if bounded, infinite if nothing
            is proven or it may grow faster than any power.
        path: The modules on the way of the fastest growth, from the input on, where a model's
            own ``forward`` was followed.
        found: A ray on which an output grows, if one was found. Its ``slope`` is the coefficient
            of radius^degree; for an MLP without a norm it is what the network without its biases
            gives on the ray.
    """

    degree: float
    path: tuple[str, ...]
    found: Escape | None

    @property
    def slope(self) -> float | None:
        """``output / radius^degree`` on the steepest ray found, at radius 1e12."""
        return None if self.found is None else self.found.slope

    @property
    def is_attained(self) -> bool:
        """Whether the proven degree is the one found."""
        return self.found is not None and abs(self.found.degree - self.degree) < 0.01


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of an output at every input; made by :func:`farfield.certify`.

    Attributes:
        bounded: ``True``: proven for every input of the domain. ``False``: a ray was found on
            which an output grows up to radius 1e12. ``None``: neither.
        bound: Between what each output stays; infinite where that is not proven.
        growth: The degree of growth.
        reason: Why, in a sentence or two.
        worst_found: The largest output that a search found, and its input.
        domain: Which inputs the certificate is about.
        notes: What else there is to know.
    """

    bounded: bool | None
    bound: Bound
    growth: Growth
    reason: str
    worst_found: Found
    domain: Domain
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The proven bound over the largest value found: 1 would be exact."""
        return self.bound.largest / self.worst_found.value if self.worst_found.value else math.inf

    @property
    def verdict(self) -> str:
        """The verdict in a few words."""
        if self.bounded:
            return "bounded"
        if self.bounded is None:
            return "not proven either way"
        degree = self.growth.found.degree if self.growth.found else math.inf
        if math.isinf(degree):
            return "grows faster than any power"
        return f"grows, degree {degree:.3g}"

    def __str__(self) -> str:
        lines = [f"{self.verdict[0].upper()}{self.verdict[1:]}, for {self.domain}.", self.reason]
        if self.bounded:
            lines.append(
                f"Proven: no output is larger than {self.bound.largest:.6g} in absolute value."
            )
        elif not math.isinf(self.growth.degree):
            lines.append(f"Proven: no output grows faster than |x|^{self.growth.degree:.3g}.")
        escape = self.growth.found
        if escape is not None and not math.isinf(escape.degree):
            lines.append(
                f"Found: on the steepest ray output {escape.output} is {escape.slope:.6g} times "
                f"radius^{escape.degree:.3g}."
            )
        else:
            ratio = f" (bound / found = {self.ratio:.3g})" if self.bounded else ""
            lines.append(
                f"Found: {self.worst_found.value:.6g} among {self.worst_found.evaluations:,} "
                f"inputs{ratio}."
            )
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def certify_model(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    domain: DomainChoice = None,
    effort: Effort | None = None,
) -> Certificate:
    r"""Prove how large a trained network's output can get, over every input.

    The model's own ``forward`` runs on what can be said of each value for every input: an interval
    for each unit, the ball that a norm puts its output on, ``|t| <= sqrt(n)``, and the degree of
    growth. Bounds of linear functions are then worked out backwards through the layers
    (:mod:`farfield.growth.dual`), with the model's own weights. The certificate is about real
    numbers and the weights as they are; its last digits allow for evaluation in float64.

    Args:
        model: Any module, in eval mode; it is not changed. What ``torch.compile`` made is read as
            the module it was made from.
        input_shape: The shape of one input, without the batch. Taken from the first layer where
            that tells it (Linear, LayerNorm, RMSNorm, BatchNorm1d).
        domain: ``None`` for every input; a pair (lower, upper) of numbers or of tensors of the
            shape of one input, infinite where there is no limit; or a mapping from coordinates
            to such pairs.
        effort: How long to search for large outputs.

    Returns:
        The verdict, the proven bound, the degree of growth, the reason in words, and the worst
        input found.

    Raises:
        UnsupportedOperation: The model does something without a rule, or is in training mode
            with dropout or batch statistics.
        SettingsError: The shape of one input is unknown or wrong, the domain is empty, or the
            model cannot be read: no module, scripted or traced, or with parameters without a shape.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025) for why one LayerNorm bounds a network;
    Dvijotham et al., "A Dual Approach to Scalable Verification of Deep Networks" (UAI 2018), for
    the dual.

    Example:
        >>> import torch, farfield as ff
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = ff.mlp(3, [16, 16], 1, norm="layer", norm_at="first")
        >>> model = ff.gaussian_init_(model, generator=generator)
        >>> cert = ff.certify(model)
        >>> cert.bounded, cert.reason
        (True, "LayerNorm '1' bounds everything after it.")
        >>> cert.worst_found.value <= cert.bound.largest
        True
    """
    model = readable(model)
    _check_arguments(model)
    shape = input_shape_of(model, input_shape)
    where = domain_of(domain, shape)
    reading, outputs = _read(model, where)
    where = replace(where, vocabulary=reading.vocabulary)
    evaluate, rough = evaluator(model), evaluator(model, torch.float32)
    effort = effort or Effort()
    search = Search(evaluate, rough, where, effort)
    _check_rows(evaluate, where)
    for node in outputs:
        refine(node)
    try:
        found = search.worst()
    except IndexError as error:
        raise SettingsError(
            f"The model fails at some inputs of the domain: {error}. Limit what is looked up in a "
            "table with domain, such as domain={0: (0, 8)} for the first number of an input."
        ) from error
    if all(node.is_bounded for node in outputs):
        tighten(outputs, where, search.seen, effort.cells)
        found = search.found()
        quadratic.tighten(outputs, found.lower, found.upper, effort.descent)
    bound = _bound(outputs)
    _check(bound, found)
    notes = tuple(reading.notes)
    if all(node.is_bounded for node in outputs):
        reason = why_bounded(outputs, is_box=where.is_box)
        return Certificate(True, bound, Growth(0.0, (), None), reason, found, where, notes)
    output = worst_output(outputs)
    degree = max(map(highest_degree, outputs))
    escape = search.escape(degree)
    growth = Growth(degree, route(output), escape)
    reason = why_unbounded(output, reading.nodes)
    if escape is None:
        reason += (
            " But no growth was found on rays to 1e12: terms may cancel, or what bounds the output "
            "has no rule that sees it."
        )
    verdict = None if escape is None else False
    return Certificate(verdict, bound, growth, reason, found, where, notes)


def _check_arguments(model: nn.Module) -> None:
    """Refuse models that cannot be called with one tensor.

    Raises:
        SettingsError: It is one.
    """
    try:
        inspect.signature(model.forward).bind(None)
    except TypeError as error:
        raise SettingsError(
            f"The forward of {type(model).__name__} cannot be called with one tensor ({error}); a "
            "certificate is of a function of one input. Wrap it in a module that takes one tensor "
            "and hands on its parts."
        ) from None


def _does_not_run(domain: Domain, error: Exception) -> SettingsError:
    cause = " ".join(str(error).split()).rstrip(".")
    return SettingsError(
        f"The model does not run on float64 inputs of shape {domain.shape}: {cause}. Give the "
        "shape of one input, without the batch, as input_shape."
    )


def _bound(outputs: Sequence[Node]) -> Bound:
    lowers, uppers = [], []
    for node in outputs:
        room = _EVALUATION * torch.where(node.bounded, largest(node.lower, node.upper), 0.0)
        lowers.append((node.lower - room)[0])
        uppers.append((node.upper + room)[0])
    if len(outputs) == 1:
        return Bound(lowers[0], uppers[0])
    return Bound(torch.cat([x.flatten() for x in lowers]), torch.cat([x.flatten() for x in uppers]))


def _check(bound: Bound, found: Found) -> None:
    """Tell if evaluation in float64 left the proven bounds: then rounding ruled it."""
    over = (found.upper > bound.upper.flatten()) | (found.lower < bound.lower.flatten())
    if bool(over.any()):
        warnings.warn(
            "At one input found, evaluation in float64 gives more than the bound that is proven "
            "for real numbers: there a norm divides by a deviation that is lost in rounding.",
            AccuracyWarning,
            stacklevel=4,
        )


def _read(model: nn.Module, domain: Domain) -> tuple[Reading, list[Node]]:
    """Run the model's own ``forward`` on one input that stands for all."""
    reading = Reading()
    lower, upper = domain.lower[None], domain.upper[None]
    degree = torch.where(lower.isinf() | upper.isinf(), 1.0, 0.0)
    with following(model):
        node = reading.add("input", lower, upper, degree, Free(is_input=True))
        try:
            with NothingRandom(RULES, "Another call would give another output."):
                result = run_with(model, wide_state(model), BoundTensor(node, reading))
        except (RuntimeError, IndexError) as error:
            raise _does_not_run(domain, error) from error
    outputs = []
    for name, value in tensors_of(result):
        if not isinstance(value, BoundTensor):
            raise SettingsError(
                f"The {name} of forward does not depend on the input, or is no tensor; a "
                "certificate is of outputs that do."
            )
        if value.ndim == 0 or value.shape[0] != 1:
            raise SettingsError(
                f"The {name} of forward has shape {tuple(value.shape)} for a batch of one input; "
                "the batch must stay the first dimension (squeeze(-1) instead of squeeze())."
            )
        outputs.append(value.node)
    return reading, outputs


def _check_rows(evaluate: Evaluate, domain: Domain) -> None:
    """Refuse models whose output for one input depends on the others in the batch.

    Raises:
        SettingsError: It does.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (3, *domain.shape)
    if domain.vocabulary:
        x = torch.randint(domain.vocabulary, shape, generator=generator)
    else:
        x = domain.clamp(torch.randn(shape, dtype=torch.float64, generator=generator))
    with torch.no_grad():
        try:
            together = evaluate(x)
        except (RuntimeError, IndexError) as error:
            raise _does_not_run(domain, error) from error
        alone = torch.cat([evaluate(row[None]) for row in x]) if len(together) == 3 else None
    if alone is None or not torch.allclose(
        together, alone, rtol=_ALIKE, atol=_ALIKE, equal_nan=True
    ):
        raise SettingsError(
            "The model's output for one input depends on the others in the batch, or the batch is "
            "not its first dimension (batch_first=True for transformers); a certificate is of one "
            "input at a time."
        )
