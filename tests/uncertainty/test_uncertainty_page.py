"""docs/uncertainty.md: its examples run and print what the page says."""

import re

import pytest

import pages


def numbers(line: str) -> list[float]:
    return [float(value) for value in re.findall(r"-?\d+\.\d*(?:e[+-]\d+)?", line)]


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What all blocks print, run one after the other as a reader would."""
    return pages.printed_by("uncertainty", 5).splitlines()


def test_examples_run(printed) -> None:
    assert "nan" not in "".join(printed)
    assert printed[-2] == "tensor([False,  True,  True,  True])"  # the alarm, inside and far away
    assert printed[-1] == "True"


def test_what_the_page_says_of_a_norm(printed) -> None:
    (free,) = (numbers(line) for line in printed if line.startswith("None"))
    (normed,) = (numbers(line) for line in printed if line.startswith("layer"))
    assert free[3] == pytest.approx(100 * free[2], rel=0.1)
    assert normed[3] == pytest.approx(normed[2], rel=0.1)
