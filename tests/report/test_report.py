"""The report: complete, self-contained, escaped."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from farfield import report
from farfield.errors import OutputError
from farfield.studies import tabular, toy

SETTINGS = tabular.Settings(
    target="price", split_column="size", threshold=7.0, seeds=2, epochs=2, hidden=(8, 8)
)


class Outline(HTMLParser):
    """Collects tags, and addresses that a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]


def _outline(page: Path) -> Outline:
    outline = Outline()
    outline.feed(page.read_text(encoding="utf-8"))
    return outline


def test_page_is_one_file_with_everything(table: pd.DataFrame, tmp_path: Path) -> None:
    result = tabular.run(table, SETTINGS)
    page = report.write_report(result, tmp_path, "farfield extrapolate table.csv")
    text = page.read_text(encoding="utf-8")
    story = result.story()
    for part in ("farfield extrapolate table.csv", "&#34;seeds&#34;: 2", "LayerNorm second"):
        assert part in text
    assert story.answer[:40] in text
    outline = _outline(page)
    assert outline.tags.count("figure") == 3
    assert outline.tags.count("table") == 3
    assert not {"script", "link", "iframe"} & set(outline.tags)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in outline.addresses)
    for address in outline.addresses:
        svg = base64.b64decode(address.partition(",")[2]).decode()
        assert svg.lstrip().startswith("<?xml")
    names = {"histogram", "error-by-distance", "prediction-by-split"}
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    with Image.open(tmp_path / "figures" / "histogram.png") as image:
        assert image.width > 1000


def test_names_from_the_table_are_escaped(table: pd.DataFrame, tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    table = table.rename(columns={"price": evil, "flat": "<b>&amp;"})
    settings = tabular.Settings(
        target=evil, split_column="size", threshold=7.0, seeds=2, epochs=1, hidden=(4, 4)
    )
    page = report.write_report(tabular.run(table, settings), tmp_path, f"farfield {evil}")
    assert evil not in page.read_text(encoding="utf-8")
    assert not {"script", "b"} & set(_outline(page).tags)


def test_dollar_signs_are_no_formulas(table: pd.DataFrame, tmp_path: Path) -> None:
    table = table.rename(columns={"price": "cost_$ (in $\\frac", "size": "a$b^2_{"})
    settings = tabular.Settings(
        target="cost_$ (in $\\frac", split_column="a$b^2_{", threshold=7.0, seeds=1, epochs=1
    )
    report.write_report(tabular.run(table, settings), tmp_path)
    for name in ("histogram", "error-by-distance", "prediction-by-split"):
        svg = (tmp_path / "figures" / f"{name}.svg").read_text()
        assert "cost_$ (in $\\frac" in svg  # as it is written, with both dollar signs
        assert "mathdefault" not in svg


def test_figures_are_the_same_every_time(tmp_path: Path) -> None:
    result = toy.run(toy.Settings(overlays=False, seeds=1, epochs=1, hidden=(4, 4)))
    for name in ("one", "two"):
        report.write_report(result, tmp_path / name)
    for kind in ("png", "svg"):
        one, two = ((tmp_path / n / "figures" / f"predictions.{kind}") for n in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_several_studies_on_one_page(table: pd.DataFrame, tmp_path: Path) -> None:
    results = [
        (toy.run(toy.Settings(overlays=False, seeds=1, epochs=1, hidden=(4, 4))), None),
        (tabular.run(table, SETTINGS), "farfield extrapolate table.csv"),
    ]
    page = report.write_page(results, tmp_path, "Both")
    outline = _outline(page)
    assert outline.tags.count("article") == 2
    assert outline.addresses[:2] == ["#section-1", "#section-2"]
    assert "farfield.studies.toy.run(" in page.read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "toy" / "predictions.png").exists()
    assert (tmp_path / "figures" / "extrapolate" / "histogram.svg").exists()


def test_python_line_of_the_report_gives_the_settings_back() -> None:
    settings = toy.Settings(overlays=False, seeds=1, epochs=1, hidden=(4, 4))
    line = toy.run(settings).story().rerun
    written = re.search(r"toy\.(Settings\(.*\))\)$", line)
    assert written is not None
    assert eval(written[1], {"Settings": toy.Settings}) == settings


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = toy.run(toy.Settings(overlays=False, seeds=1, epochs=1, hidden=(4, 4)))
    with pytest.raises(OutputError):
        report.write_report(result, tmp_path / "file")
