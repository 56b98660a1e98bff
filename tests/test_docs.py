"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_python_examples_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Take " in printed
    assert printed.count("Grows, degree 1, for every input of R^1.") == 2  # the network, the limit
    assert printed.count("Bounded, for every input of R^1.") == 2
    assert (tmp_path / "diabetes-report" / "report.html").exists()
    three = r"tensor\(\[([^,\]]+), ([^,\]]+), ([^,\]]+)\]"
    for norm, growth in (("None", (10.0, 1000.0)), ("layer", (0.1, 10.0))):
        (found,) = re.findall(f"{norm} {three}", printed)
        assert growth[0] < float(found[2]) / float(found[1]) < growth[1]


@pytest.mark.parametrize(
    "page",
    [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]],
    ids=str,
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text("utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)\)", text)
    for target in targets:
        if not target.startswith("http"):
            assert (ROOT / page.parent / target).exists(), target
