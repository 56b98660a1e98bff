"""Large proteins: Table 1."""

from __future__ import annotations

from farfield.cli.arguments import scale, set_threads
from farfield.cli.options import (
    RUNS,
    Data,
    Device,
    Epochs,
    Out,
    Overwrite,
    Quick,
    Resume,
    Seeds,
    Threads,
)
from farfield.cli.printing import finish


def protein(
    quick: Quick = False,
    seeds: Seeds = None,
    epochs: Epochs = None,
    out: Out = None,
    data: Data = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Proteins larger than any in training (Table 1 and Fig. 3).

    2500 epochs and 10 seeds by default; --quick takes about a minute or two.
    """
    set_threads(threads)
    from farfield.studies import protein as study

    settings = study.Settings(
        device=device, **scale(study.QUICK if quick else {}, seeds=seeds, epochs=epochs)
    )
    folder = out or RUNS / "protein"
    finish(
        study.run(
            settings, data=data, out=folder, resume=resume, overwrite=overwrite, progress=True
        ),
        folder,
    )
