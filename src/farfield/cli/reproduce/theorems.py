"""The theorems in numbers."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Out, Overwrite, Quick, Resume, Threads
from farfield.cli.printing import finish


def theorems(
    quick: Quick = False,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Each theorem in numbers: published, ours, agree or not (sections 3 and C).

    No data are needed.
    """
    set_threads(threads)
    from farfield.studies import theorems as study

    settings = study.Settings(**scale(study.QUICK if quick else {}))
    folder = out or RUNS / "theorems"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
