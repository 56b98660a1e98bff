"""Tiles on the workers of a client."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from farfield.destination import Output
from farfield.errors import OutputError
from farfield.infinite.kernel import InfiniteWidth
from farfield.kernel import Kernel
from farfield.scale import StoredKernel, compute

pytestmark = pytest.mark.filterwarnings("default")  # of libraries that come and go with workers


class Deadly(Kernel):
    """A kernel that takes all memory of a worker, as the system sees it."""

    def __call__(
        self, x1: torch.Tensor, x2: torch.Tensor | None = None, out: Output | None = None
    ) -> torch.Tensor:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(x1, x2, out)


def test_workers_that_die_cost_their_tiles_only(
    limit: InfiniteWidth,
    x: torch.Tensor,
    tmp_path: Path,
    files: Callable[[StoredKernel], dict[str, bytes]],
) -> None:
    expected = files(compute(limit.ntk, x, store=tmp_path / "threads", tile=5))
    np.save(tmp_path / "x.npy", x.numpy())
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        killed: list[int] = []

        def kill(done: int, total: int) -> None:
            if done == 5 and not killed:
                (pid,) = client.run(os.getpid).values()
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        stored = compute(
            limit.ntk, tmp_path / "x.npy", store=tmp_path / "k", tile=5, client=client,
            progress=kill,
        )  # fmt: skip
        assert killed
        assert files(stored) == expected
        with pytest.raises(OutputError, match="another job"):
            compute(limit.nngp, x, store=tmp_path / "k", tile=5, client=client)
        with pytest.raises(OutputError, match="a place of their own"):
            compute(limit.ntk, x, store="memory://of/each/process", tile=5, client=client)

        cluster.scheduler.allowed_failures = 0
        deadly = Deadly.tiled(limit.ntk.prepare)
        with pytest.raises(OutputError, match="Workers died again and again"):
            compute(deadly, x, store=tmp_path / "deadly", tile=20, client=client)


class Alone(Kernel):
    """Counts how many threads compute it at once; says that there should be one."""

    running, most = 0, 0
    concurrent = False

    def __call__(
        self, x1: torch.Tensor, x2: torch.Tensor | None = None, out: Output | None = None
    ) -> torch.Tensor:
        kind = type(self)
        kind.running += 1
        kind.most = max(kind.most, kind.running)
        time.sleep(0.01)  # long enough to meet another thread, as that of Together does
        values = super().__call__(x1, x2, out)
        kind.running -= 1
        return values


class Together(Alone):
    """The same, for a kernel that says that it can."""

    running, most = 0, 0
    concurrent = True


def test_threads_of_a_worker_take_turns(
    limit: InfiniteWidth, x: torch.Tensor, tmp_path: Path
) -> None:
    """Kernels of finite networks change the network while they are computed."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        for kind in (Alone, Together):
            kernel = kind.tiled(limit.ntk.prepare)
            compute(kernel, x, store=tmp_path / kind.__name__, tile=10, client=client)
    assert Alone.most == 1
    assert Together.most > 1
