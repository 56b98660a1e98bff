"""docs/certify.md: its examples run, and the table of verdicts is what they print."""

import re

import pytest

import pages

PAGE = pages.text("certify")


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    return pages.printed_by("certify", 5)


def test_examples_run(printed) -> None:
    assert "Bounded, for every input of R^3." in printed
    assert "In the model (LSTM): lstm has no rule in certificates" in printed
    assert "['Linear', 'LayerNorm', 'ReLU', 'Linear']\nbounded" in printed


def test_the_table_of_verdicts_is_what_the_example_prints(printed) -> None:
    table = PAGE.split("<!-- verdicts -->")[1].split("\n\n")[1]
    rows = table.splitlines()[2:]
    assert rows == re.findall(r"^\| .* \|$", printed, re.M)
