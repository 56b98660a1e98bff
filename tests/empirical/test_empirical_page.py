"""docs/empirical.md: its examples run and print what they say, its list is that of the rules."""

import re
from pathlib import Path

import pytest
import torch

from farfield.empirical.rules import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "empirical.md").read_text("utf-8")


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 8
    lines: list[str] = []
    place = {"print": lambda *values: lines.append(" ".join(map(str, values)))}
    with torch.random.fork_rng():
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number} of docs/empirical.md", "exec"), place)
    return "\n".join(lines)


def test_examples_run(printed) -> None:
    assert "nan" not in printed
    assert "False" not in printed
    assert "bag.weight - sample by sample: EmbeddingBagBackward0 has no rule" in printed
    assert "The outputs of one input depend on the other inputs of its batch (" in printed
    assert "[0, 5, 10]" in printed


def test_the_list_of_rules() -> None:
    (block,) = re.findall(r"<!-- rules -->\n```text\n(.*?)```", PAGE, re.S)
    assert block.split() == sorted(RULES), " ".join(sorted(RULES))
