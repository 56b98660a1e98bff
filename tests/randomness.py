"""Fresh random numbers for every test of a room: import the fixture in its conftest."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_numbers() -> Iterator[None]:
    with torch.random.fork_rng():
        seed = int.from_bytes(os.urandom(4), "little")
        print("torch.manual_seed", seed)
        torch.manual_seed(seed)
        yield
