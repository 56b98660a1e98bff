"""`farfield demo`: two studies without downloads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farfield.cli.arguments import command_line, set_threads
from farfield.cli.options import Overwrite, Resume, Threads
from farfield.cli.printing import print_path, print_result

if TYPE_CHECKING:
    from farfield.studies.shared.story import Result


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("farfield-demo"),
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """A first look without downloads: the toy study and the diabetes table, in one report."""
    set_threads(threads)
    from farfield.report import write_page, write_report
    from farfield.studies import demo as study

    results: tuple[Result, ...] = study.run(out, resume=resume, overwrite=overwrite, progress=True)
    for result, name in zip(results, ("toy", "diabetes"), strict=True):
        write_report(result, out / name, command_line())
    page = write_page(
        [(result, command_line()) for result in results],
        out,
        "How networks extrapolate: a first look",
    )
    for result in results:
        print_result(result)
    print_path(page)
