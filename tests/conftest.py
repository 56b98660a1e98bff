"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import jaxtyping
import numpy as np
import pandas as pd
import pytest

from farfield import cli


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Without the checks of shapes and types at the public face, which would come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20251)


@pytest.fixture
def table(rng: np.random.Generator) -> pd.DataFrame:
    """120 rows with a number, a text column, a constant one, and a target that depends on them."""
    size = rng.uniform(0.0, 10.0, 120)
    colour = rng.choice(["red", "green", "blue"], 120)
    return pd.DataFrame(
        {
            "size": size,
            "colour": colour,
            "flat": 7.0,
            "price": 3.0 * size + (colour == "red") + rng.normal(0.0, 0.1, 120),
        }
    )


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["farfield", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run
