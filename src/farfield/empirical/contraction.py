"""From gradients of single samples to kernels, by whichever way takes the fewest operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from farfield.empirical.costs import Pair, clusters, costs, in_any_order
from farfield.empirical.factors import Outer, entries, signals_of
from farfield.empirical.grams import (
    add_full_single,
    add_product,
    grouped,
    spread_rows,
    value_gram,
    written_full,
)
from farfield.empirical.masked import add_masked, masks_of
from farfield.empirical.outputs import Kind
from farfield.empirical.own import Own, part_rows, parts_of
from farfield.empirical.workspace import Workspace

_FEW = 2**11  # parameters with fewer entries are put together into one product
_PARTS = 4  # strips of a symmetric matrix; those below the diagonal are left out
_STRIP = 128  # least rows of such a strip
_LONG_STRIP = 64  # the same where each product is a sum over the many entries of a parameter


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
    _workspace: Workspace = field(default_factory=Workspace)

    def add(self, pairs: Sequence[Pair]) -> None:
        """Add the kernels of some parameters.

        Args:
            pairs: The parameters' gradients; those of a weight and of the bias behind it together
                share their signals' Gram matrix.
        """
        for cluster in clusters(pairs):
            masks = masks_of(cluster, self.kind, self.same)
            if masks is not None:
                for pair in cluster:
                    add_masked(self.target, self.kind, pair, masks, self.scratch)
                if self.own:
                    self.own.add(cluster, masks[0])
                continue
            if self._by_gram(cluster):
                self._add_gram(cluster)
                if self.own:
                    self.own.add(cluster)
                continue
            # What is written out anyway need not be written out twice.
            own = self.own
            if own:
                own.add([pair for pair in cluster if own.by_gram(pair.left)])
            for pair in cluster:
                shared = own and not own.by_gram(pair.left)
                self._add_gradients(pair, own if shared else None)

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
            masks = masks_of(cluster, self.kind, self.same)
            by_gram = masks is None and self._by_gram(cluster)
            way = "Gram matrices" if by_gram else "per-sample gradients"
            found |= {id(pair): way for pair in cluster}
        return [found[id(pair)] for pair in pairs]

    def _by_gram(self, cluster: Sequence[Pair]) -> bool:
        gram, dense = costs(cluster, self.kind, self.same)
        return gram <= dense

    def _add_gradients(self, pair: Pair, own: Own | None) -> None:
        """Add products of written-out gradients."""
        pair = in_any_order(pair)
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

    def _numbers(self, pair: Pair) -> int:
        """Bytes that one entry of a parameter takes in written-out gradients."""
        first, second = signals_of(pair.left), signals_of(pair.right)
        samples = len(first) + (0 if self.same else len(second))
        return samples * first.shape[1] * first.element_size()

    def _add_parts(self, pair: Pair, own: Own | None) -> None:
        """Add products of written-out gradients, some rows of the parameter at a time."""
        share = self.scratch if self.same else self.scratch // 2
        same = pair.right is pair.left
        first, second = pair.left, pair.right
        step = None
        if isinstance(first, Outer) and isinstance(second, Outer):
            step = min(part_rows(first, share), part_rows(second, share))
        lefts = parts_of(first, share, step, self._workspace.of("rows"))
        rights = parts_of(second, share, step, self._workspace.of("columns"))
        for left in lefts:
            right = left if same else next(rights)
            if own is not None:
                own.add_part(left, pair.weight)
            self._add_dense(left, right, pair.weight)

    def _add_dense(self, left: Tensor, right: Tensor, weight: float = 1.0) -> None:
        """Add the products of gradients (n, directions, entries)."""
        n1, outputs = left.shape[:2]
        each = outputs if self.kind == "full" else 1
        for rows, columns in self._strips(n1, right.shape[0], each, _LONG_STRIP):
            first, second = left[rows], right[columns]
            if self.kind == "diagonal":
                place = self.target[:, rows, columns]
                place.baddbmm_(first.transpose(0, 1), second.permute(1, 2, 0), alpha=weight)
                continue
            size = len(first) * each, len(second) * each
            matrix = self.target.view(n1 * each, -1)
            place = matrix[_times(rows, each), _times(columns, each)]
            place.addmm_(first.reshape(size[0], -1), second.reshape(size[1], -1).T, alpha=weight)

    def _add_gram(self, cluster: Sequence[Pair]) -> None:
        """Add products of Gram matrices of values and of signals."""
        left, right = cluster[0].left, cluster[0].right
        first = grouped(left)
        second = first if right is left else grouped(right)
        outputs, groups, t1, width = first.shape[1:]
        t2 = second.shape[3]
        numbers = 3 * groups * t1 * t2
        if self.kind == "full":
            numbers += 2 * outputs**2 * (groups if t1 * t2 == 1 else 1)
            numbers += 0 if t1 * t2 == 1 else 2 * groups * t2 * width
        side = int((self.scratch / (numbers * first.element_size())) ** 0.5)
        rows_each = t1 * (outputs if self.kind == "full" else 1)
        strips = self._strips(len(first), len(second), rows_each, _STRIP, max(1, side))
        for rows, columns in strips:
            values = value_gram(cluster, rows, columns)
            self._add_product(rows, columns, values, first[rows], second[columns])

    def _add_product(
        self, rows: slice, columns: slice, values: Tensor | float, first: Tensor, second: Tensor
    ) -> None:
        """Add one block: ``values`` is (groups, n1 t1, n2 t2), the signals (n, o, g, t, r)."""
        n1, outputs, groups, t1 = first.shape[:4]
        n2, t2 = second.shape[0], second.shape[3]
        single = t1 * t2 == 1
        if self.kind == "full":
            if single:
                # (n1, o, n2 o): products want the longest last axis there is.
                place = self.target.flatten(2)[rows, :, _times(columns, outputs)]
                add_full_single(place, values, first, second, self._workspace.of("mixed"))
            else:
                block = self.target[rows, :, columns]
                written_full(block, values, first, second, self._workspace.of("mixed"))
            return
        parts = [(self.target, first, second)]
        if self.kind == "diagonal":
            parts = list(zip(self.target, first.split(1, 1), second.split(1, 1), strict=True))
        for target, left, right in parts:
            place = target[rows, columns]
            product = torch.bmm(spread_rows(left), spread_rows(right).mT)
            if single and groups == 1:
                add_product(place, values, product[0])
                continue
            product *= values  # (g, n1 t1, n2 t2)
            place += product.view(groups, n1, t1, n2, t2).sum((0, 2, 4))

    def _strips(
        self, n1: int, n2: int, rows_each: int, least: int, longest: int = 2**62
    ) -> Iterator[tuple[slice, slice]]:
        """Blocks of a matrix; of a symmetric one, those on and above the diagonal.

        Args:
            n1: Samples of the rows.
            n2: Samples of the columns.
            rows_each: Rows that the products have for each sample.
            least: Rows of a product below which splitting does not pay.
            longest: Samples that fit the scratch memory.

        Yields:
            Samples of the rows and of the columns.
        """
        shortest = -(-least // rows_each)
        side = min(longest, max(shortest, -(-n1 // _PARTS))) if self.same else longest
        for top in range(0, n1, side):
            rows = slice(top, min(top + side, n1))
            if self.same and longest >= n1:
                yield rows, slice(top, n2)  # one wide strip is faster than its tiles
                continue
            for start in range(top if self.same else 0, n2, side):
                yield rows, slice(start, min(start + side, n2))


def _times(rows: slice, each: int) -> slice:
    """The same where every entry of an axis has become several."""
    return slice(rows.start * each, rows.stop * each)
