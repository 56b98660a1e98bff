"""docs/empirical.md: its examples run and print what they say, its list is that of the rules."""

import re

import pytest

import pages
from farfield.empirical.rules import RULES

PAGE = pages.text("empirical")


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    return pages.printed_by("empirical", 8)


def test_examples_run(printed) -> None:
    assert "nan" not in printed
    assert "False" not in printed
    assert "bag.weight - sample by sample: EmbeddingBagBackward0 has no rule" in printed
    assert "The outputs of one input depend on the other inputs of its batch (" in printed
    assert "[0, 5, 10]" in printed


def test_the_list_of_rules() -> None:
    (block,) = re.findall(r"<!-- rules -->\n```text\n(.*?)```", PAGE, re.S)
    assert block.split() == sorted(RULES), " ".join(sorted(RULES))
