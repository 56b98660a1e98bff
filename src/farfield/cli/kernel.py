"""`farfield kernel`: a kernel matrix of any size, into a zarr array."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farfield.cli.arguments import set_threads
from farfield.cli.options import MODEL, BiasVar, Resume, Threads, Weights, WeightVar

if TYPE_CHECKING:
    import torch

    from farfield.kernel import Kernel

KINDS = ("ntk", "nngp", "empirical")


def kernel(
    data: Annotated[
        str,
        typer.Argument(
            help="Inputs, one row each: a .npy, .parquet or .zarr file, or a zarr array's address."
        ),
    ],
    model: Annotated[str, typer.Option(help=MODEL)],
    store: Annotated[
        str, typer.Option(help="A folder, or an address such as s3://bucket/kernel.zarr.")
    ] = "kernel.zarr",
    against: Annotated[
        str | None,
        typer.Option(
            help="Second inputs [default: the first, and the matrix is symmetric].",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="ntk or nngp of infinite width, or empirical: the NTK of the network as it is.",
        ),
    ] = "ntk",
    weights: Weights = None,
    weight_var: WeightVar = None,
    bias_var: BiasVar = None,
    tile: Annotated[int, typer.Option(help="Rows and columns of a tile.")] = 2048,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes with one thread each [default: threads of one process].",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
    resume: Resume = False,
) -> None:
    """Compute YOUR model's kernel of as many rows as you have, into a zarr array.

    Rows are read and tiles are written as they come, so that neither has to fit in memory. A run
    that was killed goes on with --resume; the store is then the same as without the kill, byte by
    byte. A store of another model, other data or other versions is refused.

    Example: farfield kernel rows.npy --model my_model.py:build --store kernel.zarr --workers 2
    """
    set_threads(threads)
    from farfield.errors import SettingsError
    from farfield.growth.loading import build_model, load_weights
    from farfield.scale import compute
    from farfield.scale.rows import opened
    from farfield.studies.shared.progress import Steps

    if kind not in KINDS:
        raise SettingsError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}.")
    network = build_model(model)
    if weights is not None:
        load_weights(network, weights)
    function, dtype = _kernel_of(network, kind, weight_var, bias_var)
    for source in (data, against):
        if source is not None:
            with opened(source, dtype):  # a mistake is told before workers are started
                pass
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_cluster(workers))
        shown: list[Callable[[int], None]] = []

        def progress(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(Steps(total, show=True)).stage("tiles", total))
            shown[0](done)

        stored = compute(
            function, data, against, store, client,
            tile=tile, dtype=dtype, resume=resume, progress=progress,
        )  # fmt: skip
    high, wide = stored.shape
    print(
        f"{store}: {high:,} x {wide:,} numbers in tiles of {tile:,}, "
        f"{time.perf_counter() - start:,.1f} s"
    )


def _kernel_of(
    network: torch.nn.Module, kind: str, weight_var: float | None, bias_var: float | None
) -> tuple[Kernel, torch.dtype]:
    import torch

    from farfield.empirical import empirical_ntk
    from farfield.errors import SettingsError
    from farfield.infinite import infinite_width

    if kind != "empirical":
        limit = infinite_width(network, weight_var, bias_var)
        return (limit.ntk if kind == "ntk" else limit.nngp), torch.float64
    if weight_var is not None or bias_var is not None:
        raise SettingsError(
            "--weight-var and --bias-var are of infinite width; the empirical kernel takes the "
            "weights as they are."
        )
    first = next(network.parameters(), None)
    return empirical_ntk(network.eval()), torch.float64 if first is None else first.dtype


@contextlib.contextmanager
def _cluster(workers: int | None) -> Iterator[Any]:
    """So many processes here, or nothing."""
    if workers is None:
        yield None
        return
    from farfield.errors import SettingsError
    from farfield.scale.extra import needs

    if workers < 1:
        raise SettingsError(f"workers is {workers}; it must be at least 1.")
    with needs("distributed"):
        from distributed import Client, LocalCluster
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client
