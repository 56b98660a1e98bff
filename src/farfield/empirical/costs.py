"""What the ways from gradients of single samples to kernels cost.

For one parameter and two samples i, j the kernel is ``G_i . G_j``. If ``G = sum_t s_t (x) v_t`` (a
linear map at positions t), it is also ``sum_tu (v_it . v_ju) (s_it . s_ju)``: two Gram matrices and
no gradient at all. With T positions, r x c entries and O outputs the first way takes
``r c (O T n + O^2 n^2)`` operations, the second ``T^2 (c + O r) n^2`` (and ``O^2 T r n^2`` for all
pairs of outputs). The costs are worked out for each parameter, and the smaller one is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from farfield.empirical.factors import Dense, Factor, Lookup, Outer, entries, signals_of
from farfield.empirical.outputs import Kind

# What reading and writing costs beside the products, in multiplications; fitted to the times of
# both ways on layers of 4 to 64 positions (float32, two cores).
_GRAM_ENTRY = 30.0  # an entry of two Gram matrices
_MIXED_ENTRY = 50.0  # an entry of signals that are mixed by a Gram matrix of what went in
_GRADIENT_ENTRY = 30.0  # an entry of a gradient


@dataclass(frozen=True)
class Pair:
    """The gradients of one parameter for the rows and for the columns of a kernel.

    Attributes:
        left: Those of the rows.
        right: Those of the columns; the same object on the diagonal.
        weight: What the parameter's kernel is multiplied with.
    """

    left: Factor
    right: Factor
    weight: float = 1.0


def costs(
    cluster: Sequence[Pair], kind: Kind, same: bool, counted: bool = True
) -> tuple[float, float]:
    """Multiplications of both ways, and what else takes as long as some.

    Args:
        cluster: Parameters of the same signals.
        kind: What becomes of several outputs.
        same: Whether rows and columns are the same samples.
        counted: Whether reading and writing count, rather than products alone.

    Returns:
        Those of Gram matrices (infinite where there are none), and those of written-out gradients.
    """
    weights = (_GRAM_ENTRY, _MIXED_ENTRY, _GRADIENT_ENTRY) if counted else (0.0, 0.0, 0.0)
    gram_entry, mixed_entry, gradient_entry = weights
    first, second = cluster[0].left, cluster[0].right
    n1, outputs = signals_of(first).shape[:2]
    n2 = signals_of(second).shape[0]
    half = 0.5 if same else 1.0
    pairs = half * n1 * n2
    many = outputs**2 if kind == "full" else outputs
    dense = sum(
        entries(pair.left) * (outputs * _applied(pair, same, gradient_entry) + pairs * many)
        for pair in cluster
    )
    if isinstance(first, Dense) or isinstance(second, Dense):
        return float("inf"), dense
    t1, t2 = _positions(first), _positions(second)
    groups = first.groups if isinstance(first, Outer) else 1
    rows = first.signals.shape[-1]
    columns = sum(pair.left.columns if isinstance(pair.left, Outer) else 1 for pair in cluster)
    if kind == "full" and t1 * t2 == 1:
        gram = pairs * (columns + many * (rows + gram_entry / 3))
    else:
        gram_entry *= outputs if kind == "diagonal" else 1
        gram = pairs * t1 * t2 * (columns + outputs * rows + gram_entry)
        if kind == "full":
            gram += pairs * t2 * rows * outputs * (outputs + mixed_entry)
    return groups * gram, dense


def clusters(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Parameters of the same signals together, such as a weight and the bias behind it."""
    found: dict[object, list[Pair]] = {}
    for number, pair in enumerate(pairs):
        left, right = pair.left, pair.right
        key: object = number
        if isinstance(left, Outer) and isinstance(right, Outer):
            first = _identity(left.signals)
            key = first, first if right is left else _identity(right.signals)
        found.setdefault(key, []).append(pair)
    yield from found.values()


def in_any_order(pair: Pair) -> Pair:
    """The same kernel, with the entries of a parameter in the order that needs no copies."""
    left, right = pair.left, pair.right
    if not isinstance(left, Outer) or not isinstance(right, Outer):
        return pair
    if left.transposed != right.transposed:
        return pair
    first = left.in_product_order()
    return replace(pair, left=first, right=first if right is left else right.in_product_order())


def _identity(tensor: Tensor) -> tuple[object, ...]:
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    steps = tuple(step for size, step in strides if size > 1)
    return tensor.data_ptr(), tuple(tensor.shape), steps


def _positions(factor: Outer | Lookup) -> int:
    return factor.signals.shape[-2]


def _applied(pair: Pair, same: bool, entry: float) -> float:
    """How often the entries of a gradient are touched until it is written out."""
    total = 0.0
    for factor in (pair.left,) if same else (pair.left, pair.right):
        each = _positions(factor) if isinstance(factor, Outer) else 1
        total += signals_of(factor).shape[0] * (each + entry)
    return total
