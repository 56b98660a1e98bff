"""A kernel: a matrix of pair values between two batches of inputs, computed tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.destination import Output, check_apart, destination, kind_of
from farfield.errors import SettingsError

MEMORY_BUDGET = 64 * 2**20
"""Bytes that the intermediate arrays of the tiles may take, by default."""

_LIVE_ARRAYS = 24  # the arrays of a tile that are alive at once, at the widest point
_LONGEST_SIDE = 256  # larger tiles leave the cache and are slower
_LONGEST_BLOCK = 4096  # rows whose own values are kept at once, all layers together


@dataclass(frozen=True)
class Tiles:
    """Kernels between two blocks of inputs, ready to be computed tile by tile.

    Attributes:
        values: Rows and columns of a tile -> one matrix per kernel.
        diagonals: One (n,) per kernel: ``k(x, x)`` of each row of the first block.
        parallel: Whether several threads may compute tiles at once, without gradients.
        entry_size: Bytes that one intermediate array takes for a pair.
        write: A faster way for float64 matrices on the CPU, if there is one: rows, columns, where
            to write the tiles, and where their mirror images (nowhere if empty); a tile that
            is its own mirror image is completed below its diagonal.
        longest_side: Rows and columns of a tile at most, if not as many as usual.
    """

    values: Callable[[slice, slice], Sequence[Tensor]]
    diagonals: Callable[[], Sequence[Tensor]]
    parallel: bool = False
    entry_size: int = 8
    write: Callable[[slice, slice, Sequence[Tensor], Sequence[Tensor]], None] | None = None
    longest_side: int | None = None


Prepare = Callable[[Tensor, Tensor], Tiles]
"""What is to be known of two blocks before their tiles can be computed."""


class Kernel:
    """A symmetric positive semi-definite function of two inputs.

    ``kernel(x1, x2)[i, j] = k(x1[i], x2[j])``. The matrix is computed in tiles, so that beyond
    the output only about ``memory_budget`` bytes are used, whatever the sizes; on a CPU each of
    PyTorch's threads computes tiles of its own. On one batch (``x2=None``) only half of the tiles
    are computed: the matrix is exactly symmetric, and its diagonal equals ``diagonal(x1)``
    exactly.

    Args:
        block: Computes the values of one tile: (m1, *features), (m2, *features) -> (m1, m2).
        diagonal: Computes ``k(x, x)`` of each row: (m, *features) -> (m,).
        memory_budget: Bytes for the intermediate arrays of the tiles.

    Example:
        >>> import torch
        >>> linear = Kernel(lambda a, b: a @ b.T, lambda a: (a * a).sum(-1))
        >>> linear(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        tensor([[5., 6.],
                [6., 9.]])
    """

    def __init__(
        self,
        block: Callable[[Tensor, Tensor], Tensor],
        diagonal: Callable[[Tensor], Tensor],
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        def prepare(x1: Tensor, x2: Tensor) -> Tiles:
            return Tiles(
                lambda rows, columns: [block(x1[rows], x2[columns])], lambda: [diagonal(x1)]
            )

        self._prepare: Prepare = prepare
        self.memory_budget = memory_budget

    @classmethod
    def tiled(cls, prepare: Prepare, memory_budget: int = MEMORY_BUDGET) -> Kernel:
        """A kernel that learns something about the rows before it computes tiles.

        Args:
            prepare: Takes two blocks of inputs (the same object twice on the diagonal).
            memory_budget: Bytes for the intermediate arrays of the tiles.

        Returns:
            The kernel.
        """
        kernel = cls.__new__(cls)
        kernel._prepare = prepare
        kernel.memory_budget = memory_budget
        return kernel

    @property
    def prepare(self) -> Prepare:
        """What prepares two blocks of inputs: it knows where the kernel comes from."""
        return self._prepare

    @property
    def origin(self) -> Mapping[str, str]:
        """Where the kernel comes from, in words: what two kernels that are the same agree in."""
        return getattr(self._prepare, "origin", {"kernel": "a function"})

    @property
    def concurrent(self) -> bool:
        """Whether several threads may compute matrices of it at once."""
        return bool(getattr(self._prepare, "concurrent", False))

    def __call__(
        self,
        x1: Float[Tensor, "n1 *features"],
        x2: Float[Tensor, "n2 *features"] | None = None,
        out: Output | None = None,
    ) -> Tensor:
        """The matrix of kernel values.

        Args:
            x1: First batch.
            x2: Second batch; the first one when ``None``.
            out: Where to write: a tensor or a NumPy array (such as a memory map) of shape
                (n1, n2) and the dtype of the inputs.

        Returns:
            The matrix of shape (n1, n2), in the dtype and on the device of ``x1``: ``out``
            itself when it was a tensor, a view of its memory when it was an array.

        Raises:
            SettingsError: Batches whose features, dtypes or devices differ, or an ``out`` that
                is no matrix of the kernel's shape, dtype and device with memory of its own.
        """
        return evaluate(self._prepare, x1, x2, [out], self.memory_budget)[0]

    def diagonal(self, x: Float[Tensor, "n *features"]) -> Float[Tensor, " n"]:
        """The values ``k(x[i], x[i])``, without the matrix."""
        check_batches(x, x)
        blocks = [x[block] for block in _slices(len(x), _LONGEST_BLOCK)] or [x]
        return torch.cat([self._prepare(block, block).diagonals()[0] for block in blocks])


def evaluate(
    prepare: Prepare,
    x1: Tensor,
    x2: Tensor | None,
    outs: Sequence[Output | None],
    memory_budget: int = MEMORY_BUDGET,
) -> list[Tensor]:
    """Fill several kernel matrices that are computed together.

    Args:
        prepare: Makes the tiles of two blocks.
        x1: First batch, (n1, *features).
        x2: Second batch, or ``None`` for the first one.
        outs: One place to write for each kernel, or ``None`` for a new tensor.
        memory_budget: Bytes for the intermediate arrays of the tiles.

    Returns:
        One (n1, n2) matrix per kernel.

    Raises:
        SettingsError: As :meth:`Kernel.__call__`.
    """
    symmetric = x2 is None or x2 is x1
    other = x1 if x2 is None else x2
    check_batches(x1, other)
    targets = [destination(out, x1, len(other)) for out in outs]
    check_apart(targets, [x1, other])
    threads = torch.get_num_threads() if x1.device.type == "cpu" else 1
    with _pool(threads) as pool:
        for rows in _slices(len(x1), _LONGEST_BLOCK):
            for columns in _slices(len(other), _LONGEST_BLOCK):
                same = symmetric and rows == columns
                if symmetric and columns.start < rows.start:
                    continue
                first = x1[rows]
                tiles = prepare(first, first if same else other[columns])
                fill = _Filling(
                    tiles,
                    [target[rows, columns] for target in targets],
                    [target[columns, rows] for target in targets] if symmetric else [],
                    same,
                    torch.is_inference_mode_enabled(),
                )
                side = tile_side(tiles.entry_size * threads, memory_budget, tiles.longest_side)
                places = _places(rows, columns, side, half=same)
                for _ in pool.map(fill, places) if tiles.parallel and pool else map(fill, places):
                    pass
                if same:
                    for block, values in zip(fill.blocks, tiles.diagonals(), strict=True):
                        block.diagonal().copy_(values)
    return targets


def tile_side(entry_size: int, memory_budget: int, longest: int | None = None) -> int:
    """Rows and columns of a tile whose arrays of ``entry_size`` bytes a pair fit the budget."""
    entries = memory_budget // (_LIVE_ARRAYS * entry_size)
    return max(1, min(longest or _LONGEST_SIDE, int(entries**0.5)))


@dataclass(frozen=True)
class _Filling:
    """Computes one tile of each kernel and writes it, with its mirror image if there is one."""

    tiles: Tiles
    blocks: Sequence[Tensor]
    mirrors: Sequence[Tensor]
    same: bool
    inference: bool

    def __call__(self, place: tuple[slice, slice]) -> None:
        # Threads start outside of the caller's inference mode, where its tensors are read-only.
        with torch.inference_mode() if self.inference else nullcontext():
            self._fill(*place)

    def _fill(self, rows: slice, columns: slice) -> None:
        on_diagonal = self.same and rows == columns
        tiles = [block[rows, columns] for block in self.blocks]
        mirrors = [mirror[columns, rows] for mirror in self.mirrors]
        if self.tiles.write is not None and all(map(_is_plain, (*tiles, *mirrors))):
            self.tiles.write(rows, columns, tiles, mirrors)
            return
        for number, values in enumerate(self.tiles.values(rows, columns)):
            if on_diagonal:
                values = values.triu() + values.triu(1).T
            tiles[number].copy_(values)
            if mirrors and not on_diagonal:
                mirrors[number].copy_(values.T.contiguous())


def _is_plain(matrix: Tensor) -> bool:
    """Whether these are float64 numbers on the CPU, with rows in one piece."""
    return (
        matrix.dtype == torch.float64
        and matrix.device.type == "cpu"
        and (matrix.stride(1) == 1 or matrix.shape[1] == 1)
    )


def _places(rows: slice, columns: slice, side: int, *, half: bool) -> Iterator[tuple[slice, slice]]:
    """The tiles of a block, or those on and above its diagonal."""
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    for row, column in itertools.product(_slices(tall, side), _slices(wide, side)):
        if not half or column.start >= row.start:
            yield row, column


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that compute tiles, each on its own.

    Many small operations on small tiles waste less time when every thread has a tile of its own
    than when all threads share each operation.
    """
    if threads == 1:
        yield None
        return

    def start() -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)

    pool = ThreadPoolExecutor(threads, initializer=start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers have changed what new threads begin with


def _slices(length: int, side: int) -> Iterator[slice]:
    for start in range(0, length, side):
        yield slice(start, min(start + side, length))


def check_batches(x1: Tensor, x2: Tensor) -> None:
    """Refuse batches that no kernel can compare.

    Raises:
        SettingsError: They are no tensors, features, dtypes or devices differ, or numbers are not
            finite and real.
    """
    for x in (x1, x2):
        if not isinstance(x, Tensor):
            raise SettingsError(
                f"A kernel compares tensors; this is {kind_of(x)}. Convert it, such as with "
                "torch.from_numpy(x) for an array or torch.tensor(x) for a list."
            )
    if x1.ndim == 0 or x1.shape[1:] != x2.shape[1:]:
        raise SettingsError(
            f"A kernel compares batches of shape (n, *features) with equal features; these are "
            f"{tuple(x1.shape)} and {tuple(x2.shape)}."
        )
    if not x1.is_floating_point():
        raise SettingsError(
            f"A kernel compares real floating-point inputs; these are {x1.dtype}. Convert them, "
            f"such as with x.double()."
        )
    for x in (x1, x2):
        if not bool(x.isfinite().all()):
            raise SettingsError(
                f"{int((~x.isfinite()).sum())} of the {x.numel()} numbers of the inputs are NaN or "
                "infinite; a kernel needs finite inputs. Remove or fill those rows."
            )
    if x1.dtype != x2.dtype or x1.device != x2.device:
        raise SettingsError(
            f"The batches must agree in dtype and device; these are {x1.dtype} on {x1.device} and "
            f"{x2.dtype} on {x2.device}."
        )
