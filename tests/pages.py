"""Pages of the docs: their text, and what their examples print."""

import re
from pathlib import Path

import torch

DOCS = Path(__file__).parents[1] / "docs"


def text(name: str) -> str:
    """The page ``docs/<name>.md``."""
    return (DOCS / f"{name}.md").read_text("utf-8")


def printed_by(name: str, blocks: int) -> str:
    """What all blocks of a page print, run one after the other as a reader would.

    ``blocks`` is how many there are at least, so that a broken search finds out.
    """
    found = re.findall(r"```python\n(.*?)```", text(name), re.S)
    assert len(found) >= blocks
    lines: list[str] = []
    place = {"print": lambda *values: lines.append(" ".join(map(str, values)))}
    with torch.random.fork_rng():
        for number, block in enumerate(found):
            exec(compile(block, f"block {number} of docs/{name}.md", "exec"), place)
    return "\n".join(lines)
