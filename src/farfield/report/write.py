"""Writing a study's results for readers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from farfield import files
from farfield.report import figures
from farfield.studies.shared.story import Result, Story, Table
from farfield.studies.shared.workspace import FIGURES, REPORT


@dataclass(frozen=True)
class _Rows:
    """A table as plain text, ready for the page."""

    caption: str
    prose: bool
    header: list[str]
    rows: list[tuple[str | None, list[str]]]


@dataclass(frozen=True)
class _Section:
    """A story with its pictures, ready for the page."""

    story: Story
    tables: list[_Rows]
    pictures: list[tuple[str, str]]
    record: str
    rerun: str
    is_command: bool


def write_report(result: Result, folder: Path | str, command: str | None = None) -> Path:
    """Write a study's figures and its page, ``report.html``, into a folder.

    The page is one file without scripts and without anything from elsewhere: question, answer,
    tables, figures, notes, settings, and how to run it again.

    Args:
        result: What a study's ``run`` returned.
        folder: Where to write; made if absent.
        command: The command that gave the result; a line of Python by default.

    Returns:
        The path of the page.

    Raises:
        OutputError: The folder cannot be written to.
    """
    return write_page([(result, command)], folder)


def write_page(
    results: Sequence[tuple[Result, str | None]], folder: Path | str, title: str | None = None
) -> Path:
    """Write several studies' results as one page, ``report.html``.

    Args:
        results: Results, each with the command that gave it.
        folder: Where to write; figures go to a folder of each study's name if there are
            several.
        title: Title of the page; the study's own if there is one.

    Returns:
        The path of the page.

    Raises:
        OutputError: The folder cannot be written to.
    """
    folder = Path(folder)
    files.make_folder(folder)
    sections = []
    for result, command in results:
        pictures = folder / FIGURES
        if len(results) > 1:
            pictures = pictures / str(result.record["study"])
        files.make_folder(pictures)
        sections.append(_section(result, command, pictures))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("farfield.report").joinpath("page.html").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        title=title or sections[0].story.title, sections=sections
    )
    path = folder / REPORT
    files.write_text(path, page)
    return path


def _section(result: Result, command: str | None, pictures: Path) -> _Section:
    story = result.story()
    drawn = []
    for figure in story.figures:
        svg = figures.save(figure, pictures)
        encoded = base64.b64encode(svg.encode()).decode()
        drawn.append((f"data:image/svg+xml;base64,{encoded}", figure.caption))
    return _Section(
        story=story,
        tables=[_rows(table) for table in story.tables],
        pictures=drawn,
        record=_readable(result.record),
        rerun=command or story.rerun,
        is_command=command is not None,
    )


def _rows(table: Table) -> _Rows:
    named = table.frame.reset_index()
    rows = [
        (table.links.get(number), ["" if pd.isna(cell) else str(cell) for cell in row])
        for number, row in enumerate(named.itertuples(index=False))
    ]
    return _Rows(table.caption, table.prose, [str(name) for name in named.columns], rows)


def _readable(record: Mapping[str, object]) -> str:
    return json.dumps(record, indent=2)
