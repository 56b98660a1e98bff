"""The whole of "Just One Layer Norm Guarantees Stable Extrapolation": all its studies at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from farfield.errors import DataError
from farfield.studies import (
    abalone,
    heatmaps,
    placements,
    protein,
    theorems,
    toy,
    transformer,
)
from farfield.studies.claims import Claiming, claims_frame
from farfield.studies.story import Result as StudyResult
from farfield.studies.story import Story, Table
from farfield.studies.workspace import REPORT, Workspace


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        quick: Each study at the settings of a first look.
    """

    quick: bool = False


@dataclass(frozen=True)
class Result:
    """All studies.

    Attributes:
        settings: What was run.
        studies: The result of each study by its name, which is also its folder.
        notes: What was left out, and why.
        record: Settings, versions and machine.
    """

    settings: Settings
    studies: Mapping[str, StudyResult]
    notes: tuple[str, ...]
    record: Mapping[str, object]

    @property
    def metrics(self) -> pd.DataFrame:
        """The claims of all studies."""
        return _table(self.studies).reset_index()

    @property
    def predictions(self) -> pd.DataFrame:
        """Nothing; each study has its own."""
        return pd.DataFrame()

    def story(self) -> Story:
        """The report's content."""
        frame = _table(self.studies)
        kept = frame["agree"] == "yes"
        pages = {
            number: f"{study}/{REPORT}" for number, study in enumerate(frame.pop("study").tolist())
        }
        against = ", ".join(frame.index[~kept])
        return Story(
            title="Just One Layer Norm Guarantees Stable Extrapolation: the paper, rerun",
            question="Which claims of the paper hold when everything is computed again?",
            answer=f"{int(kept.sum())} of {len(frame)} claims agree"
            + (f"; not: {against}." if against else "."),
            tables=(
                Table(
                    "Each claim, published and found. Items lead to the page of their study.",
                    frame,
                    prose=True,
                    links=pages,
                ),
            ),
            figures=(),
            remarks=self.notes,
            notes=(
                "Not covered: the faces (Table 2, Fig. 4), which need your own copy of UTKFace: "
                "`farfield reproduce faces`.",
                "'agree' is decided by the rule in each study's source; the page of the study has "
                "the settings that the paper leaves open.",
                *(
                    ("Run with --quick: few seeds and epochs, so numbers scatter.",)
                    if self.settings.quick
                    else ()
                ),
            ),
            source=(
                "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
                "Extrapolation (NeurIPS 2025), arXiv 2505.14512."
            ),
            rerun=f"farfield.studies.paper.run(folder, farfield.studies.paper.{self.settings!r})",
        )


def run(
    out: Path | str,
    settings: Settings | None = None,
    *,
    data: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run every study of the paper, each in its own folder.

    Args:
        out: A folder; each study gets one in it.
        settings: What is run; the paper's scale by default.
        data: A folder with the protein and abalone tables; see :func:`farfield.data.locate`.
        resume: Go on with an interrupted run.
        overwrite: Replace an earlier run.
        progress: Whether to show progress bars.

    Returns:
        The results of all. Without a table (no file and no network) the studies that need it are
        left out, which ``notes`` tell.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        MissingExtraError: XGBoost or statsmodels is not installed.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025).
    """
    settings = settings if settings is not None else Settings()
    out = Path(out)
    workspace = Workspace.open(out, "paper", settings, resume=resume, overwrite=overwrite)
    how = {"resume": resume, "overwrite": overwrite, "progress": progress}

    def scale(quick: Mapping[str, Any]) -> dict[str, Any]:
        return dict(quick) if settings.quick else {}

    parts: dict[str, Callable[[Path], StudyResult]] = {
        "theorems": lambda folder: theorems.run(
            theorems.Settings(**scale(theorems.QUICK)), out=folder, **how
        ),
        "toy": lambda folder: toy.run(toy.Settings(**scale(toy.QUICK)), out=folder, **how),
        "heatmaps": lambda folder: heatmaps.run(
            heatmaps.Settings(**scale(heatmaps.QUICK)), out=folder, **how
        ),
        "transformer": lambda folder: transformer.run(
            transformer.Settings(**scale(transformer.QUICK)), out=folder, **how
        ),
        "protein": lambda folder: protein.run(
            protein.Settings(**scale(protein.QUICK)), data=data, out=folder, **how
        ),
        "abalone": lambda folder: abalone.run(
            abalone.Settings(**scale(abalone.QUICK)), data=data, out=folder, **how
        ),
        "placements": lambda folder: placements.run(
            placements.Settings(**scale(placements.QUICK)), data=data, out=folder, **how
        ),
    }
    studies: dict[str, StudyResult] = {}
    notes: list[str] = []
    for name, study in parts.items():
        try:
            studies[name] = study(out / name)
        except DataError as error:
            notes.append(f"{name} was left out: {error}")
            continue
        workspace.save(_table(studies).reset_index(), pd.DataFrame())
    workspace.finish()
    return Result(settings, studies, tuple(notes), workspace.record)


def _table(studies: Mapping[str, StudyResult]) -> pd.DataFrame:
    """All claims, with the study that each comes from."""
    frames = [
        claims_frame(result.claims()).assign(study=name)
        for name, result in studies.items()
        if isinstance(result, Claiming)
    ]
    return pd.concat(frames) if frames else claims_frame(()).assign(study="")
