"""What a command prints when it is done."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from farfield.cli.arguments import command_line

if TYPE_CHECKING:
    import pandas as pd

    from farfield.studies.shared.story import Result


def finish(result: Result, folder: Path) -> None:
    """Write the report and print what a reader wants to know first."""
    from farfield.report import write_report

    page = write_report(result, folder, command_line())
    print_result(result)
    print_path(page)


def print_result(result: Result) -> None:
    """The story in short: title, first table, answer, remarks."""
    console = Console()
    story = result.story()
    console.print()
    console.print(story.title, style="bold", markup=False)
    _print_frame(console, story.tables[0].frame, prose=story.tables[0].prose)
    console.print(story.answer, markup=False, highlight=False)
    for note in story.remarks:
        console.print(f"- {note}", markup=False, highlight=False)


def _print_frame(console: Console, frame: pd.DataFrame, *, prose: bool) -> None:
    named = frame.reset_index()
    table = Table(box=None, pad_edge=False)
    for column in named.columns:  # headers in lines, so that numbers are not broken
        header = "\n".join(textwrap.wrap(str(column), 12))
        table.add_column(header, no_wrap=not prose, vertical="top" if prose else "bottom")
    for row in named.itertuples(index=False):
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def print_path(page: Path) -> None:
    """Where the report is, on the last line."""
    # Not through rich, which would break a long path into lines.
    print(f"\nReport: {page.resolve()}")
