from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import farfield as ff
from farfield.infinite.kernel import InfiniteWidth
from farfield.scale import StoredKernel


@pytest.fixture
def limit() -> InfiniteWidth:
    return ff.infinite_width(ff.mlp(3, [8, 8], 1, norm="layer"), 2.0, 0.1)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(37, 3, dtype=torch.float64)


@pytest.fixture
def files() -> Callable[[StoredKernel], dict[str, bytes]]:
    """All files of a store, but for the description, by their names."""

    def read(stored: StoredKernel) -> dict[str, bytes]:
        folder = Path(stored.address)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return read
