"""All studies of the paper."""

from __future__ import annotations

from farfield.cli.arguments import command_line, set_threads
from farfield.cli.options import RUNS, Data, Out, Overwrite, Quick, Resume, Threads
from farfield.cli.printing import finish


def paper(
    quick: Quick = False,
    out: Out = None,
    data: Data = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """All studies of the LayerNorm paper, and one table of its claims, published and found.

    Each study gets a folder and a page of its own.
    """
    set_threads(threads)
    from farfield.report import write_report
    from farfield.studies import paper as study

    folder = out or RUNS / "paper"
    result = study.run(
        folder,
        study.Settings(quick),
        data=data,
        resume=resume,
        overwrite=overwrite,
        progress=True,
    )
    for name, part in result.studies.items():
        write_report(part, folder / name, command_line())
    finish(result, folder)
