"""Tangent kernels on a square: Fig. 2."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Out, Overwrite, Quick, Resume, Seeds, Threads
from farfield.cli.printing import finish


def heatmaps(
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Tangent kernels of random networks beside the exact ones (Fig. 2).

    5 seeds by default. Nothing is trained, and no data are needed.
    """
    set_threads(threads)
    from farfield.studies import heatmaps as study

    settings = study.Settings(**scale(study.QUICK if quick else {}, seeds=seeds))
    folder = out or RUNS / "heatmaps"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
