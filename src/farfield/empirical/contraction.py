"""From gradients of single samples to kernels, by whichever way takes the fewest operations.

For one parameter and two samples i, j the kernel is ``G_i . G_j``. If ``G = sum_t s_t (x) v_t`` (a
linear map at positions t), it is also ``sum_tu (v_it . v_ju) (s_it . s_ju)``: two Gram matrices and
no gradient at all. With T positions, r x c entries and O outputs the first way takes
``r c (O T n + O^2 n^2)`` operations, the second ``T^2 (c + O r) n^2`` (and ``O^2 T r n^2`` for all
pairs of outputs). The costs are worked out for each parameter, and the smaller one is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.empirical.factors import Dense, Factor, Lookup, Outer, entries, signals_of
from farfield.empirical.outputs import Kind
from farfield.empirical.own import Own, part_rows, parts_of

_GRAM_ENTRY = 30  # operations that an entry of two Gram matrices costs beside their products
_GRADIENT_ENTRY = 10  # operations that writing and reading an entry of a gradient costs
_FEW = 2**11  # parameters with fewer entries are put together into one product
_PARTS = 4  # strips of a symmetric matrix; those below the diagonal are left out
_STRIP = 32  # least rows of such a strip


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


@dataclass
class Contraction:
    """A kernel that is summed up parameter by parameter.

    Attributes:
        target: Where to add: (n1, n2), (o, n1, n2) for ``diagonal``, (n1, o, n2, o) for ``full``.
        kind: What becomes of several outputs.
        scratch: Bytes for intermediate arrays.
        same: Whether rows and columns are the same samples, so that what is below the diagonal
            need not be computed.
        own: Where the kernel of every sample with itself is summed up, if they are the same.
    """

    target: Tensor
    kind: Kind
    scratch: int
    same: bool
    own: Own | None = None
    _small: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, pairs: Sequence[Pair]) -> None:
        """Add the kernels of some parameters.

        Args:
            pairs: The parameters' gradients; those of a weight and of the bias behind it together
                share their signals' Gram matrix.
        """
        for cluster in clusters(pairs):
            by_gram = self._by_gram(cluster)
            if by_gram:
                self._add_gram(cluster)
            for pair in cluster:
                # What is written out anyway need not be written out twice.
                shared = self.own and not by_gram and not self.own.by_gram(pair.left)
                if self.own and not shared:
                    self.own.add(pair.left, pair.weight)
                if not by_gram:
                    self._add_gradients(pair, self.own if shared else None)

    def _add_gradients(self, pair: Pair, own: Own | None) -> None:
        """Add products of written-out gradients."""
        size = entries(pair.left) * self._numbers(pair)
        if entries(pair.left) > _FEW or 4 * size > self.scratch:
            self._add_parts(pair, own)
            return
        left = pair.left.dense()
        right = left if pair.right is pair.left else pair.right.dense()
        if own is not None:
            own.add_part(left, pair.weight)
        self._small.append((left * pair.weight if pair.weight != 1.0 else left, right))
        held = sum(side.shape[2] for side, _ in self._small)
        if held > _FEW or 4 * held * self._numbers(pair) > self.scratch:
            self.finish()

    def finish(self) -> Tensor:
        """Add what small parameters have left to be added together.

        Returns:
            The target.
        """
        if self._small:
            left, right = (torch.cat(side, 2) for side in zip(*self._small, strict=True))
            self._add_dense(left, right)
            self._small.clear()
        return self.target

    def routes(self, pairs: Sequence[Pair]) -> list[str]:
        """The way that is taken for each parameter, in words."""
        found: dict[int, str] = {}
        for cluster in clusters(pairs):
            way = "Gram matrices" if self._by_gram(cluster) else "per-sample gradients"
            found |= {id(pair): way for pair in cluster}
        return [found[id(pair)] for pair in pairs]

    def operations(self, pairs: Sequence[Pair]) -> float:
        """Multiplications and additions of the ways that are taken."""
        return sum(2 * min(self._costs(cluster)) for cluster in clusters(pairs))

    def _numbers(self, pair: Pair) -> int:
        """Bytes that one entry of a parameter takes in written-out gradients."""
        first, second = signals_of(pair.left), signals_of(pair.right)
        samples = len(first) + (0 if self.same else len(second))
        return samples * first.shape[1] * first.element_size()

    def _by_gram(self, cluster: Sequence[Pair]) -> bool:
        gram, dense = self._costs(cluster)
        return gram <= dense

    def _costs(self, cluster: Sequence[Pair]) -> tuple[float, float]:
        first, second = cluster[0].left, cluster[0].right
        n1, outputs = signals_of(first).shape[:2]
        n2 = signals_of(second).shape[0]
        half = 0.5 if self.same else 1.0
        pairs = half * n1 * n2
        many = outputs**2 if self.kind == "full" else outputs
        dense = sum(
            entries(pair.left) * (outputs * _applied(pair, self.same) + pairs * many)
            for pair in cluster
        )
        if isinstance(first, Dense) or isinstance(second, Dense):
            return float("inf"), dense
        t1, t2 = _positions(first), _positions(second)
        groups = first.groups if isinstance(first, Outer) else 1
        rows = first.signals.shape[-1]
        columns = sum(pair.left.columns if isinstance(pair.left, Outer) else 1 for pair in cluster)
        if self.kind == "full" and t1 * t2 == 1:
            gram = pairs * (columns + many * (rows + _GRAM_ENTRY / 3))
        else:
            gram = pairs * t1 * t2 * (columns + outputs * rows + _GRAM_ENTRY)
            gram += pairs * many * t2 * rows if self.kind == "full" else 0.0
        return groups * gram, dense

    def _add_parts(self, pair: Pair, own: Own | None) -> None:
        """Add products of written-out gradients, some rows of the parameter at a time."""
        share = self.scratch if self.same else self.scratch // 2
        same = pair.right is pair.left
        lefts, rights = parts_of(pair.left, share), parts_of(pair.right, share)
        if isinstance(pair.left, Outer) and isinstance(pair.right, Outer):
            step = min(part_rows(pair.left, share), part_rows(pair.right, share))
            lefts, rights = parts_of(pair.left, share, step), parts_of(pair.right, share, step)
        for first in lefts:
            second = first if same else next(rights)
            if own is not None:
                own.add_part(first, pair.weight)
            self._add_dense(first, second, pair.weight)

    def _add_dense(self, left: Tensor, right: Tensor, weight: float = 1.0) -> None:
        """Add the products of gradients (n, directions, entries)."""
        n1, outputs = left.shape[:2]
        for rows, columns in self._strips(
            n1, right.shape[0], outputs if self.kind == "full" else 1
        ):
            first, second = left[rows], right[columns]
            if self.kind == "full":
                product = first.flatten(0, 1) @ second.flatten(0, 1).T
                block = self.target[rows, :, columns]
                block += weight * product.view(len(first), outputs, len(second), outputs)
            elif self.kind == "diagonal":
                product = first.transpose(0, 1) @ second.permute(1, 2, 0)
                self.target[:, rows, columns] += weight * product
            else:
                product = first.flatten(1) @ second.flatten(1).T
                self.target[rows, columns].add_(product, alpha=weight)

    def _add_gram(self, cluster: Sequence[Pair]) -> None:
        """Add products of Gram matrices of values and of signals."""
        left, right = cluster[0].left, cluster[0].right
        first, second = _grouped(left), _grouped(right)
        outputs, groups, positions = first.shape[1:4]
        numbers = groups * positions * second.shape[3] * 3
        if self.kind == "full":
            numbers += 3 * outputs * second.shape[3] * first.shape[4] * groups + outputs**2
        side = int((self.scratch / (numbers * first.element_size())) ** 0.5)
        for rows, columns in self._strips(len(first), len(second), positions, max(1, side)):
            values = _value_gram(cluster, rows, columns)
            self._add_product(rows, columns, values, first[rows], second[columns])

    def _add_product(
        self,
        rows: slice,
        columns: slice,
        values: Tensor | float,
        first: Tensor,
        second: Tensor,
    ) -> None:
        """Add one block: ``values`` is (groups, n1 t1, n2 t2), the signals (n, o, g, t, r)."""
        n1, outputs, groups, t1 = first.shape[:4]
        n2, t2 = second.shape[0], second.shape[3]
        single = t1 * t2 == 1
        if self.kind == "full":
            add = _full_single if single else _full
            block = self.target[rows, :, columns]
            block += add(values, first, second)
            return
        directions = range(outputs) if self.kind == "diagonal" else [None]
        for direction in directions:
            picked = slice(None) if direction is None else slice(direction, direction + 1)
            product = _rows(first[:, picked]) @ _rows(second[:, picked]).mT  # (g, n1 t1, n2 t2)
            product *= values
            if not single:
                product = product.view(groups, n1, t1, n2, t2).sum((2, 4))
            total = product[0] if groups == 1 else product.sum(0)
            place = self.target if direction is None else self.target[direction]
            place[rows, columns] += total

    def _strips(
        self, n1: int, n2: int, rows_each: int, longest: int = 2**62
    ) -> Iterator[tuple[slice, slice]]:
        """Blocks of a matrix; of a symmetric one, those on and above the diagonal.

        Args:
            n1: Samples of the rows.
            n2: Samples of the columns.
            rows_each: Rows that the products have for each sample.
            longest: Samples that fit the scratch memory.

        Yields:
            Samples of the rows and of the columns.
        """
        least = -(-_STRIP // rows_each)
        side = min(longest, max(least, -(-n1 // _PARTS))) if self.same else longest
        for top in range(0, n1, side):
            rows = slice(top, min(top + side, n1))
            if self.same and longest >= n1:
                yield rows, slice(top, n2)  # one wide strip is faster than its tiles
                continue
            for start in range(top if self.same else 0, n2, side):
                yield rows, slice(start, min(start + side, n2))


def _full_single(values: Tensor | float, first: Tensor, second: Tensor) -> Tensor:
    """(n1, o, n2, o) of a map at one position."""
    n1, outputs, groups = first.shape[:3]
    n2 = second.shape[0]
    product = (
        first.movedim(2, 0).reshape(groups, n1 * outputs, -1)
        @ second.movedim(2, 0).reshape(groups, n2 * outputs, -1).mT
    )
    product = product.view(groups, n1, outputs, n2, outputs)
    product *= values if isinstance(values, float) else values.view(groups, n1, 1, n2, 1)
    return product[0] if groups == 1 else product.sum(0)


def _full(values: Tensor | float, first: Tensor, second: Tensor) -> Tensor:
    """(n1, o, n2, o) of a map at several positions."""
    n1, outputs, groups, t1, rows = first.shape
    n2, t2 = second.shape[0], second.shape[3]
    if isinstance(values, float):
        values = first.new_full((groups, n1 * t1, n2 * t2), values)
    # For each i: sum over its positions t of signal_it times the row of values.
    spread = first.permute(2, 0, 1, 4, 3).reshape(groups * n1, outputs * rows, t1)
    mixed = spread @ values.view(groups * n1, t1, n2 * t2)
    mixed = mixed.view(groups, n1, outputs, rows, n2, t2)
    # For each j: sum over its positions, the rows and the groups.
    right = second.permute(0, 2, 4, 3, 1).reshape(n2, groups * rows * t2, outputs)
    left = mixed.permute(4, 1, 2, 0, 3, 5).reshape(n2, n1 * outputs, groups * rows * t2)
    return (left @ right).view(n2, n1, outputs, outputs).permute(1, 2, 0, 3)


def _value_gram(cluster: Sequence[Pair], rows: slice, columns: slice) -> Tensor | float:
    """The weighed Gram matrices of what went in, (groups, n1 t1, n2 t2)."""
    constant, total = 0.0, None
    for pair in cluster:
        left, right = pair.left, pair.right
        if isinstance(left, Lookup) and isinstance(right, Lookup):
            first, second = left.tokens[rows].reshape(-1, 1), right.tokens[columns].reshape(1, -1)
            met = (first == second) & (first >= 0)
            gram = met.to(left.signals.dtype).unsqueeze(0)
        elif isinstance(left, Outer) and isinstance(right, Outer):
            if left.values is None or right.values is None:
                constant += pair.weight
                continue
            gram = _stacked(left.values[rows]) @ _stacked(right.values[columns]).mT
        else:
            raise AssertionError("factors of one cluster are alike")
        if pair.weight != 1.0:
            gram *= pair.weight
        total = gram if total is None else total.add_(gram)
    if total is None:
        return constant
    return total.add_(constant) if constant else total


def _stacked(values: Tensor) -> Tensor:
    """(n, g, t, c) -> (g, n t, c)."""
    n, groups, positions, columns = values.shape
    return values.transpose(0, 1).reshape(groups, n * positions, columns)


def _rows(signals: Tensor) -> Tensor:
    """(n, o, g, t, r) -> (g, n t, o r)."""
    n, outputs, groups, positions, rows = signals.shape
    ordered = signals.permute(2, 0, 3, 1, 4)
    return ordered.reshape(groups, n * positions, outputs * rows)


def _grouped(factor: Factor) -> Tensor:
    """Signals as (n, o, groups, positions, rows)."""
    signals = signals_of(factor)
    return signals.unsqueeze(2) if isinstance(factor, Lookup) else signals


def _positions(factor: Outer | Lookup) -> int:
    return factor.signals.shape[-2]


def _applied(pair: Pair, same: bool) -> float:
    """How often the entries of a gradient are touched until it is written out."""
    total = 0.0
    for factor in (pair.left,) if same else (pair.left, pair.right):
        each = _positions(factor) if isinstance(factor, Outer) else 1
        total += signals_of(factor).shape[0] * (each + _GRADIENT_ENTRY)
    return total


def clusters(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Parameters of the same signals together, such as a weight and the bias behind it."""
    found: dict[object, list[Pair]] = {}
    for number, pair in enumerate(pairs):
        left, right = pair.left, pair.right
        key: object = number
        if isinstance(left, Outer) and isinstance(right, Outer):
            key = _identity(left.signals), _identity(right.signals)
        found.setdefault(key, []).append(pair)
    yield from found.values()


def _identity(tensor: Tensor) -> tuple[object, ...]:
    strides = zip(tensor.shape, tensor.stride(), strict=True)
    steps = tuple(step for size, step in strides if size > 1)
    return tensor.data_ptr(), tuple(tensor.shape), steps
