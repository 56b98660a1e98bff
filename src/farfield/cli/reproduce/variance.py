"""The variance of trained networks' outputs over initialisations."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Out, Overwrite, Quick, Resume, Seeds, Threads
from farfield.cli.printing import finish


def variance(
    quick: Quick = False,
    seeds: Seeds = None,
    out: Out = None,
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Variance over initialisations, theory and ensembles (Seleznova and Kutyniok 2021).

    100 networks for each of 5 depths and 5 variances by default. No data are needed.
    """
    set_threads(threads)
    from farfield.studies import variance as study

    settings = study.Settings(**scale(study.QUICK if quick else {}, seeds=seeds))
    folder = out or RUNS / "variance"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
