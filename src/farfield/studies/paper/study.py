"""The whole of "Just One Layer Norm Guarantees Stable Extrapolation": all its studies at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from farfield.data.fashion import FASHION_FOLDER
from farfield.errors import DataError, MissingExtraError
from farfield.studies import (
    abalone,
    faces,
    heads,
    heatmaps,
    placements,
    protein,
    rotated,
    theorems,
    toy,
    transformer,
)
from farfield.studies.paper import pages
from farfield.studies.paper.pages import Page
from farfield.studies.shared.claims import Claim, Claiming, claims_frame, claims_table, counted
from farfield.studies.shared.story import Result as StudyResult
from farfield.studies.shared.story import Story, Table
from farfield.studies.shared.workspace import Workspace

_NEEDS_FACES = (
    "Needs your own copy of UTKFace, whose licence does not allow to ship it: "
    "farfield reproduce paper --faces PATH (or farfield reproduce faces --data PATH)."
)


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        quick: Each study at the settings of a first look.
    """

    quick: bool = False


@dataclass(frozen=True)
class Inputs:
    """What some studies need; they are left out without it.

    Attributes:
        tables: A folder with the protein and abalone tables; see :func:`farfield.data.locate`.
        faces: The user's folder or archive of UTKFace.
        backbone: A folder with another network for the faces.
        fashion: The folder of Fashion-MNIST.
        cache: A folder for features; the user's cache by default.
    """

    tables: Path | str | None = None
    faces: Path | str | None = None
    backbone: Path | str | None = None
    fashion: Path | str = FASHION_FOLDER
    cache: Path | str | None = None


@dataclass(frozen=True)
class _Part:
    """A study of the paper.

    Attributes:
        run: Runs it in a folder.
        claims: Its claims, from its result.
        not_run: The same claims, if it cannot run, for a reason.
    """

    run: Callable[[Path], Any]
    claims: Callable[[Any], tuple[Claim, ...]]
    not_run: Callable[[str], tuple[Claim, ...]] | None = None


@dataclass(frozen=True)
class Result:
    """All studies.

    Attributes:
        settings: What was run.
        studies: The result of each study that ran by its name, which is also its folder.
        claims_by_study: The claims of each study, run or not, in the order of the paper.
        seconds: Wall time of each study that ran.
        record: Settings, versions and machine.
    """

    settings: Settings
    studies: Mapping[str, StudyResult]
    claims_by_study: Mapping[str, tuple[Claim, ...]]
    seconds: Mapping[str, float]
    record: Mapping[str, Any]

    def claims(self) -> tuple[Claim, ...]:
        """The claims of all studies."""
        return tuple(claim for own in self.claims_by_study.values() for claim in own)

    def pages(self) -> dict[str, Page]:
        """The page of each theorem, figure and table that was run."""
        return pages.pages(self.studies, self.claims_by_study)

    @property
    def metrics(self) -> pd.DataFrame:
        """The claims of all studies."""
        return _frame(self.claims_by_study)

    @property
    def predictions(self) -> pd.DataFrame:
        """Nothing; each study has its own."""
        return pd.DataFrame()

    def story(self) -> Story:
        """The report's content."""
        claims, shown = self.claims(), self.pages()
        links = {n: shown[c.of].address for n, c in enumerate(claims) if c.of in shown}
        return Story(
            title="Just One Layer Norm Guarantees Stable Extrapolation: the paper, rerun",
            question="Which claims of the paper hold when everything is computed again?",
            answer=f"{counted(claims)} {self._time()}",
            tables=(
                claims_table(
                    claims, "Each claim, published and found. Items lead to their pages.", links
                ),
                Table(
                    f"Wall time, {self._machine()}.",
                    pd.DataFrame(
                        {"seconds": [f"{value:.0f}" for value in self.seconds.values()]},
                        index=pd.Index(self.seconds, name="study"),
                    ),
                ),
            ),
            figures=(),
            remarks=(
                ("Run with --quick: few seeds and epochs, so numbers scatter.",)
                if self.settings.quick
                else ()
            ),
            notes=(
                "'agree' is decided by the rule in each study's source; the page of an item has "
                "the settings that the paper leaves open.",
                "'As Table 2' and 'As Fig. 4' are the paper's experiment on images that anybody "
                "can install, with another backbone and another target.",
            ),
            source=(
                "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
                "Extrapolation (NeurIPS 2025), arXiv 2505.14512."
            ),
            rerun=f"farfield.studies.paper.run(folder, farfield.studies.paper.{self.settings!r})",
        )

    def _time(self) -> str:
        return f"{sum(self.seconds.values()) / 60:.1f} minutes, {self._machine()}."

    def _machine(self) -> str:
        machine = self.record["machine"]
        threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
        return f"{threads} on {machine['cores']} cores ({machine['system']})"


def run(
    out: Path | str,
    settings: Settings | None = None,
    *,
    inputs: Inputs | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Run every study of the paper, each in its own folder.

    Args:
        out: A folder; each study gets one in it.
        settings: What is run; the paper's scale by default.
        inputs: Data that are not shipped.
        resume: Go on with an interrupted run.
        overwrite: Replace an earlier run.
        progress: Whether to show progress bars.

    Returns:
        The results of all. A study whose data or libraries are not there is left out, and its
        claims say so; faces that are named and cannot be used are an error.

    Raises:
        DataError: The faces that were named cannot be used.
        SettingsError: Settings other than those of the run to resume.
        MissingExtraError: The faces were named, and transformers is not installed.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025).
    """
    settings = settings if settings is not None else Settings()
    inputs = inputs if inputs is not None else Inputs()
    out = Path(out)
    workspace = Workspace.open(out, "paper", settings, resume=resume, overwrite=overwrite)
    parts = _parts(
        settings, inputs, {"resume": resume, "overwrite": overwrite, "progress": progress}
    )
    studies: dict[str, StudyResult] = {}
    claims = {
        name: part.not_run(_NEEDS_FACES) if part.not_run is not None else ()
        for name, part in parts.items()
    }
    seconds: dict[str, float] = {}
    # The user's own data first, so that what is wrong with them is told before hours of work.
    for name in sorted(parts, key=lambda name: name != "faces"):
        part = parts[name]
        if name == "faces" and inputs.faces is None:
            continue
        begin = time.monotonic()
        try:
            studies[name] = part.run(out / name)
        except (DataError, MissingExtraError) as error:
            if part.not_run is None or name == "faces":
                raise
            claims[name] = part.not_run(str(error))
            continue
        seconds[name] = _once(workspace, name, time.monotonic() - begin)
        claims[name] = part.claims(studies[name])
        workspace.save(_frame(claims), pd.DataFrame())
    workspace.finish()
    ordered = {name: studies[name] for name in parts if name in studies}
    return Result(settings, ordered, claims, seconds, workspace.record)


def _parts(settings: Settings, inputs: Inputs, how: dict[str, Any]) -> dict[str, _Part]:
    """The studies in the order of the paper, and those beyond it."""

    def scale(quick: Mapping[str, Any]) -> dict[str, Any]:
        return dict(quick) if settings.quick else {}

    def own(result: Claiming) -> tuple[Claim, ...]:
        return result.claims()

    def line(**change: Any) -> _Part:
        chosen = toy.Settings(**scale(toy.QUICK), **change)
        return _Part(lambda folder: toy.run(chosen, out=folder, **how), own)

    # What theory says of the further figures is no claim of theirs, and takes longest.
    further = {"overlays": False} if settings.quick else {}
    return {
        "theorems": _Part(
            lambda folder: theorems.run(
                theorems.Settings(**scale(theorems.QUICK)), out=folder, **how
            ),
            own,
        ),
        "toy": line(),
        "heatmaps": _Part(
            lambda folder: heatmaps.run(
                heatmaps.Settings(**scale(heatmaps.QUICK)), out=folder, **how
            ),
            own,
        ),
        "protein": _Part(
            lambda folder: protein.run(
                protein.Settings(**scale(protein.QUICK)), data=inputs.tables, out=folder, **how
            ),
            own,
            protein.not_run,
        ),
        "faces": _Part(
            lambda folder: faces.run(
                inputs.faces or "",
                faces.Settings(**scale(faces.QUICK)),
                backbone=inputs.backbone,
                cache=inputs.cache,
                out=folder,
                **how,
            ),
            own,
            heads.not_run,
        ),
        "rotated": _Part(
            lambda folder: rotated.run(
                rotated.Settings(**scale(rotated.QUICK)),
                data=inputs.fashion,
                cache=inputs.cache,
                out=folder,
                **how,
            ),
            own,
            rotated.not_run,
        ),
        "toy-gelu": line(activation="gelu", **further),
        "toy-silu": line(activation="silu", **further),
        "toy-batch": line(norm="batch", **further),
        "transformer": _Part(
            lambda folder: transformer.run(
                transformer.Settings(**scale(transformer.QUICK)), out=folder, **how
            ),
            own,
        ),
        "abalone": _Part(
            lambda folder: abalone.run(
                abalone.Settings(**scale(abalone.QUICK)), data=inputs.tables, out=folder, **how
            ),
            own,
            abalone.not_run,
        ),
        "placements": _Part(
            lambda folder: placements.run(
                placements.Settings(**scale(placements.QUICK)),
                data=inputs.tables,
                out=folder,
                **how,
            ),
            own,
            placements.not_run,
        ),
    }


def _once(workspace: Workspace, name: str, seconds: float) -> float:
    """The wall time of the run that finished a study: a resumed run only reads it again."""
    frame = workspace.part(f"seconds-{name}", lambda: pd.DataFrame({"seconds": [seconds]}))
    return float(frame["seconds"].iloc[0])


def _frame(claims: Mapping[str, tuple[Claim, ...]]) -> pd.DataFrame:
    """All claims, with the study that each comes from."""
    frames = [claims_frame(own).assign(study=name) for name, own in claims.items() if own]
    return pd.concat(frames).reset_index()
