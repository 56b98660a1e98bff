"""A kernel matrix of any size: its tiles as dask tasks, into a zarr array."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from farfield.errors import OutputError, RangeError, SettingsError
from farfield.kernel import Kernel
from farfield.scale.extra import needs
from farfield.scale.job import Job, is_here
from farfield.scale.opening import elsewhere, finished, prepare
from farfield.scale.rows import Rows, Source, opened
from farfield.scale.store import StoredKernel

if TYPE_CHECKING:
    from distributed import Client

_TILE = 2048
"""Rows and columns of a tile: 32 MB in float64, seconds of work at most."""

_BATCH = 4096  # tasks that dask holds at once
_SIDE = 256  # rows and columns of the blocks by which a tile is transposed

_ALONE = threading.Lock()
"""Held by a tile of a kernel that is computed by one thread at a time, also on a worker of many."""

Progress = Callable[[int, int], None]
"""Called with the number of tiles that are done, from 0 on, and that of all."""


def compute(
    kernel: Kernel,
    x1: Source,
    x2: Source | None = None,
    store: str | Path = "kernel.zarr",
    client: Client | None = None,
    *,
    tile: int = _TILE,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    workers: int | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> StoredKernel:
    """Compute a kernel matrix of any size, tile by tile, into a zarr array.

    Each tile is a dask task: on threads here, or on the workers of a ``dask.distributed`` Client
    (other processes, a cluster, SLURM or Kubernetes by dask's own launchers). On one batch
    (``x2=None``) half of the tiles are computed, and the matrix is exactly symmetric. A run that
    was killed goes on where it was: a tile is complete or absent, damaged ones are found by their
    checksum and computed anew, and the finished store is the same, byte by byte.

    Args:
        kernel: Any kernel with one number for each pair of inputs.
        x1: First inputs (n1, *features): a tensor, a NumPy array or memory map, a zarr array, the
            path of a .npy, .parquet or .zarr file, an address of a zarr array, or a DataLoader that
            does not shuffle.
        x2: Second inputs; the first ones when ``None``.
        store: A folder, or an address that fsspec knows, such as ``s3://bucket/kernel.zarr``.
        client: Whose workers compute; threads of this process when ``None``. Inputs in memory
            travel to the workers; files are opened there, so they need to see them.
        tile: Rows and columns of a tile.
        dtype: What the inputs are converted to; their own dtype when ``None``.
        device: Where tiles are computed, such as ``"cuda"``; where the inputs are when ``None``.
            With a client only its workers need to have it.
        workers: Threads without a client; as many as PyTorch uses when ``None``. Kernels of finite
            networks take one at a time, which has all of PyTorch's threads.
        resume: Whether an earlier run of the same job in the store goes on; else it is refused.
        progress: Called at the beginning and after each tile with the number of tiles that are
            done, and of all.

    Returns:
        The matrix, to be read tile by tile.

    Raises:
        SettingsError: Inputs or settings that are not allowed.
        DataError: A file that cannot be read.
        OutputError: The store belongs to another job (the message says what differs), or cannot
            be written, or is not where the client's workers write; what was written before is
            kept.
        RangeError: Values that are not finite.
        MissingExtraError: dask or zarr are not installed.

    Example:
        >>> import tempfile, torch, farfield as ff
        >>> limit = ff.infinite_width(ff.mlp(3, [8], 1), 2.0, 0.1)
        >>> x = torch.randn(10, 3, dtype=torch.float64)
        >>> folder = tempfile.mkdtemp()
        >>> stored = ff.scale.compute(limit.ntk, x, store=folder + "/kernel.zarr", tile=4)
        >>> bool(abs(stored.array[:] - limit.ntk(x).numpy()).max() < 1e-12)
        True
    """
    _check(kernel, tile, workers)
    _check_placement(dtype, device, client)
    with needs("dask"):
        import dask  # noqa: F401
    with opened(x1, dtype) as rows, _opened_or(x2, rows, dtype) as columns:
        _check_rows(rows, columns)
        job = Job(kernel, rows, columns, tile, device)
        stored = prepare(job, store, resume=resume)
        work = Work(job, stored, fresh=not stored.array.nchunks_initialized)
        places = job.places()
        done = _counted(progress, len(places))
        if client is None:
            _on_threads(work, places, workers, done)
        else:
            _on_workers(work, places, client, done)
    return finished(stored)


@dataclass(frozen=True)
class Work:
    """Sees to it that a tile is in the store, and its mirror image.

    Attributes:
        job: What is computed.
        stored: Where it goes.
        fresh: Whether the store was empty when the run began, so that nothing is looked for.
    """

    job: Job
    stored: StoredKernel
    fresh: bool

    def __call__(self, place: tuple[int, int]) -> bool:
        """Compute a tile, unless it is there; whether it was computed."""
        rows, columns = self.job.span(place)
        mirrored = self.job.symmetric and rows != columns
        targets = [(rows, columns), *([(columns, rows)] if mirrored else [])]
        if not self.fresh and all(self.stored.tile(*target) is not None for target in targets):
            return False
        values = self.job.tile(place)
        if not np.isfinite(values).all():
            raise RangeError(
                f"The kernel of rows {rows.start} to {rows.stop} with {columns.start} to "
                f"{columns.stop} is not finite in {values.dtype}; compute in float64 "
                "(dtype=torch.float64), or leave out inputs that are too large."
            )
        self.stored.write(rows, columns, values)
        if mirrored:
            self.stored.write(columns, rows, _mirrored(values))
        return True


def _mirrored(values: np.ndarray) -> np.ndarray:
    """The transposed matrix in C's order, block by block: each of them stays in the cache."""
    mirror = np.empty(values.shape[::-1], values.dtype)
    for top in range(0, len(values), _SIDE):
        for left in range(0, values.shape[1], _SIDE):
            block = values[top : top + _SIDE, left : left + _SIDE]
            mirror[left : left + _SIDE, top : top + _SIDE] = block.T
    return mirror


def _on_threads(
    work: Work, places: Sequence[tuple[int, int]], workers: int | None, done: Callable[[], None]
) -> None:
    from dask.base import compute as run_all
    from dask.delayed import delayed

    threads = torch.get_num_threads()
    concurrent = work.job.kernel.concurrent
    count = (workers or threads) if concurrent else 1

    def run(place: tuple[int, int]) -> None:
        if concurrent:
            torch.set_num_threads(1)  # of this thread: a tile has one
        work(place)
        done()

    try:
        for start in range(0, len(places), _BATCH):
            tasks = [delayed(run, pure=False)(p) for p in places[start : start + _BATCH]]
            run_all(*tasks, scheduler="threads", num_workers=count)
    finally:
        torch.set_num_threads(threads)


def _on_workers(
    work: Work, places: Sequence[tuple[int, int]], client: Client, done: Callable[[], None]
) -> None:
    with needs("distributed"):
        import cloudpickle
        from distributed import as_completed
        from distributed.scheduler import KilledWorker
    # A task makes the work anew on a worker, so that one that dies takes nothing with it.
    job = client.submit(cloudpickle.loads, cloudpickle.dumps(work), pure=False)
    waiting = iter(places)
    first = list(itertools.islice(waiting, _BATCH))
    running = as_completed(client.map(_apply, first, work=job, pure=False))
    try:
        for number, future in enumerate(running):
            try:
                future.result()
            except KilledWorker as error:
                raise OutputError(
                    f"Workers died again and again at a tile of {work.stored.address}; they may "
                    "have too little memory. All tiles written before are kept: run the same again "
                    "on other workers to go on, or choose another store and a smaller tile."
                ) from error
            if not number and not work.stored.array.nchunks_initialized:
                raise elsewhere(work.stored)
            done()
            following = next(waiting, None)
            if following is not None:
                running.add(client.submit(_apply, following, work=job, pure=False))
    finally:
        client.cancel(list(running.futures))


def _apply(place: tuple[int, int], work: Work) -> bool:
    if work.job.kernel.concurrent:
        torch.set_num_threads(1)
        return work(place)
    with _ALONE:
        return work(place)


def _counted(progress: Progress | None, total: int) -> Callable[[], None]:
    if progress is None:
        return lambda: None
    counter = itertools.count()
    progress(next(counter), total)
    return lambda: progress(next(counter), total)


@contextmanager
def _opened_or(source: Source | None, rows: Rows, dtype: torch.dtype | None) -> Iterator[Rows]:
    if source is None:
        yield rows
        return
    with opened(source, dtype) as columns:
        yield columns


def _check(kernel: Any, tile: int, workers: int | None) -> None:
    if not isinstance(kernel, Kernel):
        raise SettingsError(
            f"The kernel is of type {type(kernel).__name__}; give a Kernel, such as "
            "ff.infinite_width(model).ntk or ff.empirical_ntk(model)."
        )
    for name, value in (("tile", tile), ("workers", workers)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and (not whole or value < 1):
            raise SettingsError(f"{name} is {value}; it must be a whole number of at least 1.")


def _check_placement(dtype: Any, device: Any, client: Any) -> None:
    """Refuse what is no dtype, no device that can be had, or no client."""
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise SettingsError(f"dtype is {dtype!r}; give one such as torch.float64.")
    if client is not None:
        with needs("distributed"):
            from distributed import Client
        if not isinstance(client, Client):
            raise SettingsError(
                f"client is of type {type(client).__name__}; give a dask.distributed Client."
            )
    if device is None:
        return
    try:
        torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise SettingsError(f"device is {device!r}; give one such as 'cuda' or 'cpu'.") from error
    if client is None and not is_here(device):
        raise SettingsError(
            f"device is {device!r}, on which this process cannot compute; leave it out, or give a "
            "client whose workers can."
        )


def _check_rows(rows: Rows, columns: Rows) -> None:
    for source in (rows, columns):
        if not len(source):
            raise SettingsError("There are no rows; a kernel needs at least one.")
    if rows.shape[1:] != columns.shape[1:]:
        raise SettingsError(
            f"The features of both inputs must agree; these are {rows.shape[1:]} and "
            f"{columns.shape[1:]}."
        )
    for source in (rows, columns):
        kind = source.read(slice(0, 1)).dtype
        if not kind.is_floating_point:
            raise SettingsError(
                f"The inputs are read as {kind}; give dtype=torch.float64 to have them converted."
            )
        source.check_finite("inputs", SettingsError)
