"""A small decoder: Fig. 7."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import RUNS, Device, Epochs, Out, Overwrite, Quick, Resume, Seeds, Threads
from farfield.cli.printing import finish


def transformer(
    quick: Quick = False,
    seeds: Seeds = None,
    epochs: Epochs = None,
    out: Out = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """A small decoder that goes on with a + b i, far beyond training (Fig. 7); certificates.

    10 epochs and 5 seeds by default; --quick takes about two minutes.
    """
    set_threads(threads)
    from farfield.studies import transformer as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "transformer"
    finish(
        study.run(settings, out=folder, resume=resume, overwrite=overwrite, progress=True),
        folder,
    )
