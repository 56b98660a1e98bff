"""All studies of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farfield.cli.arguments import command_line, set_threads
from farfield.cli.options import (
    RUNS,
    Backbone,
    Cache,
    Data,
    Out,
    Overwrite,
    Quick,
    Resume,
    Threads,
)
from farfield.cli.printing import finish


def paper(
    quick: Quick = False,
    faces: Annotated[
        Path | None,
        typer.Option(
            "--faces",
            help="Your folder of UTKFace, or its archive; without it Table 2 is not run.",
            show_default=False,
        ),
    ] = None,
    backbone: Backbone = None,
    cache: Cache = None,
    out: Out = None,
    data: Data = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """All studies of the LayerNorm paper, and one table of its claims, published and found.

    Each theorem, figure and table gets a page of its own.
    """
    set_threads(threads)
    from farfield.report import write_report
    from farfield.studies import paper as study

    folder = out or RUNS / "paper"
    result = study.run(
        folder,
        study.Settings(quick),
        inputs=study.Inputs(tables=data, faces=faces, backbone=backbone, cache=cache),
        resume=resume,
        overwrite=overwrite,
        progress=True,
    )
    for page in result.pages().values():
        write_report(page, folder / page.folder, command_line())
    finish(result, folder)
