"""docs/certify.md: its examples run, and the table of verdicts is what they print."""

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "certify.md").read_text("utf-8")


@pytest.fixture(scope="module")
def printed() -> str:
    """What all blocks print, run one after the other as a reader would."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 5
    lines: list[str] = []
    place = {"print": lambda *values: lines.append(" ".join(map(str, values)))}
    with torch.random.fork_rng():
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number} of docs/certify.md", "exec"), place)
    return "\n".join(lines)


def test_examples_run(printed) -> None:
    assert "Bounded, for every input of R^3." in printed
    assert "In the model (LSTM): lstm has no rule in certificates" in printed
    assert "['Linear', 'LayerNorm', 'ReLU', 'Linear']\nbounded" in printed


def test_the_table_of_verdicts_is_what_the_example_prints(printed) -> None:
    table = PAGE.split("<!-- verdicts -->")[1].split("\n\n")[1]
    rows = table.splitlines()[2:]
    assert rows == re.findall(r"^\| .* \|$", printed, re.M)
