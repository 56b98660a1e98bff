r"""How unlike the training data an input is: for the network's gradient, and for what goes in.

The gradient by a weight is ``s (x) v``, what came back to it and what had gone in. A norm behind
the first layer divides what comes back by what went in, so that their product, and with it the
tangent kernel, forgets how long an input is. The factor that still knows is the input itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.empirical.inputs import Inputs, count, tensors_of
from farfield.errors import RangeError, SettingsError
from farfield.uncertainty.distances import Distances, distances_of, exceeded_by
from farfield.uncertainty.network import Network, check_finite

_TANGENT_RIDGE = 1e-2  # of the mean of the tangent kernel's diagonal
_INPUT_RIDGE = 1.0  # the weight of a single sample: that many features can be fewer samples
_LEVEL = 0.05  # the share of training inputs with a novelty above 1
_AT_ONCE = 2**24  # numbers of inputs that are held in float64 at once


@dataclass(frozen=True, eq=False)
class Places:
    r"""Distances of inputs: ``k(x, x') = 1 + (x - m) . (x' - m) / s``, their numbers side by side.

    m is the mean and s the mean of ``|x - m|^2`` over reference inputs. Integers, such as tokens,
    are names without a length and do not count.

    Attributes:
        reference: The reference inputs, one tensor (m, *features) for each real input.
        scale: s.
        distances: Of the reference inputs from each other.
    """

    reference: tuple[Tensor, ...]
    scale: float
    distances: Distances

    def of(self, inputs: Inputs) -> Float[Tensor, " n"]:
        """The squared distances of some inputs.

        Raises:
            SettingsError: Inputs of another shape than the reference inputs.
            RangeError: Inputs too far away to be squared.
        """
        given = _real(inputs)
        shapes = [tuple(x.shape[1:]) for x in given]
        wanted = [tuple(x.shape[1:]) for x in self.reference]
        if shapes != wanted:
            raise SettingsError(
                f"The inputs have the shapes {shapes} for each sample and those in training had "
                f"{wanted}; the novelty compares number with number. Bring them to the same shape."
            )
        own, cross = _products(given, self.reference)
        return self.distances.of(1.0 + own / self.scale, 1.0 + cross / self.scale)


@dataclass(frozen=True, eq=False)
class Reference:
    r"""Training inputs, and how far each is from the others in two spaces.

    Of tangent features, the gradients of all outputs with the inner product
    ``sum_a df_a(x) . df_a(x') / o``, and of the inputs themselves. The novelty is

    ``max_j (d_j(x) / c_j)^{1/2}``

    over both squared distances d_j, where c_j is what 5 % of the reference inputs exceed, each
    beside the others; all of it in units of what 5 % of them exceed.

    Attributes:
        inputs: The reference inputs.
        tangents: Distances of tangent features.
        places: Distances of inputs, if these are real numbers.
    """

    inputs: Inputs
    tangents: Distances
    places: Places | None

    def scores(self, network: Network, inputs: Inputs) -> Float[Tensor, " n"]:
        """The novelty of some inputs that fit into memory at once.

        Args:
            network: The network.
            inputs: The inputs.
        """
        there = network.prepared(inputs)
        kernel = network.kernel("mean")
        own = kernel.diagonal(there)
        check_finite(own)
        found = [self.tangents.of(own, kernel(there, self.inputs))]
        if self.places is not None:
            found.append(self.places.of(there))
        return self._together(found) / self._unit

    @property
    def left_out(self) -> Float[Tensor, " m"]:
        """The novelty of each reference input beside the others."""
        return self._together([each.left_out for each in self._distances]) / self._unit

    def threshold(self, level: float) -> float:
        """The novelty that this share of the reference inputs exceeds.

        Args:
            level: Between 0 and 1.
        """
        return exceeded_by(self.left_out, level)

    def side(self, budget: int) -> int:
        """How many inputs fit into memory at once."""
        return max(1, budget // (8 * 8 * count(self.inputs)))

    @property
    def _distances(self) -> list[Distances]:
        return [self.tangents, *([] if self.places is None else [self.places.distances])]

    @property
    def _unit(self) -> float:
        together = self._together([each.left_out for each in self._distances])
        return exceeded_by(together, _LEVEL)

    def _together(self, squares: list[Tensor]) -> Tensor:
        units = [exceeded_by(each.left_out, _LEVEL) for each in self._distances]
        scaled = [found / unit for found, unit in zip(squares, units, strict=True)]
        return torch.stack(scaled).amax(0).sqrt()


def reference_of(network: Network, inputs: Inputs) -> Reference:
    """Measure how far each of some inputs is from the others.

    Args:
        network: The network.
        inputs: Training inputs, in the network's precision.

    Returns:
        The reference.

    Raises:
        RangeError: The tangent kernel of most inputs is zero.
    """
    gram = network.kernel("mean")(inputs)
    if not bool((gram.diagonal() > 0).double().mean() > 0.5):
        raise RangeError(
            "Outputs of most training inputs change with no parameter, so that nothing can be "
            "compared with them; take other weights."
        )
    rounding = torch.finfo(network.dtype).eps
    tangents = distances_of(gram, _TANGENT_RIDGE, rounding)
    return Reference(inputs, tangents, _places_of(_real(inputs)))


def _places_of(real: tuple[Tensor, ...]) -> Places | None:
    if not any(tensor.numel() for tensor in real):
        return None
    own, cross = _products(real, real)
    scale = float(own.mean()) or 1.0  # any unit, if the inputs are all alike
    exact = torch.finfo(torch.float64).eps
    return Places(real, scale, distances_of(1.0 + cross / scale, _INPUT_RIDGE, exact))


def _products(
    given: tuple[Tensor, ...], reference: tuple[Tensor, ...]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
    """``|x - m|^2`` and ``(x - m) . (X - m)``, in float64."""
    first = given[0]
    own = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    cross = own.new_zeros(len(first), len(reference[0]))
    for new, known in zip(given, reference, strict=True):
        for some, others in _columns(new, known):
            mean = others.mean(0)
            there = some - mean
            own += there.square().sum(1)
            cross += there @ (others - mean).mT
    if not bool(own.isfinite().all() and cross.isfinite().all()):
        raise RangeError(
            "The squares of some inputs are beyond the range of float64; bring them to another "
            "unit, or leave them out: their novelty is beyond every threshold."
        )
    return own, cross


def _real(inputs: Inputs) -> tuple[Tensor, ...]:
    """The real inputs; those with names in the order of these, however they were given."""
    if isinstance(inputs, Mapping):
        inputs = [inputs[name] for name in sorted(inputs)]
    return tuple(tensor for tensor in tensors_of(inputs) if tensor.is_floating_point())


def _columns(new: Tensor, known: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The numbers of both in float64, some features at a time."""
    step = max(1, _AT_ONCE // (len(new) + len(known)))
    flat = [tensor.reshape(len(tensor), -1).split(step, 1) for tensor in (new, known)]
    for some, others in zip(*flat, strict=True):
        yield some.double(), others.double()
