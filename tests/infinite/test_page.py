"""docs/infinite.md: its examples run, its numbers are true, its lists are those of the rules."""

import re

import pytest

import pages
from farfield.infinite.kernel import rules
from farfield.infinite.limit_tensor import RULES

PAGE = pages.text("infinite")


def listed(name: str) -> list[str]:
    """The words of the block behind the comment of this name."""
    (block,) = re.findall(rf"<!-- {name} -->\n```text\n(.*?)```", PAGE, re.S)
    return block.split()


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    return pages.printed_by("infinite", 8)


def test_examples_run(printed) -> None:
    assert "In module '1' (Softmax): softmax has no rule in the infinite-width" in printed
    assert "nan" not in printed


def test_the_table_of_norms_is_what_the_example_prints(printed) -> None:
    names = {"nowhere": "None", "first": "0", "second": "1", "every": "every"}
    for row, label in names.items():
        (cells,) = re.findall(rf"^\| {row} \| (.*?) \|$", PAGE, re.M)
        (values,) = re.findall(rf"^{label} tensor\(\[(.*?)\]", printed, re.M)
        stated = [float(cell) for cell in cells.split(" | ")]
        found = [float(value) for value in values.split(",")]
        assert found == pytest.approx(stated, rel=2e-3)


def test_the_lists_of_functions_are_those_of_the_rules() -> None:
    assert rules is not None  # importing the rules registers them
    what = "docs/infinite.md lists other functions; put in "
    assert listed("rules") == RULES.names(), what + " ".join(RULES.names())
    assert listed("refused") == RULES.refused(), what + " ".join(RULES.refused())
