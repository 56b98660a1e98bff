"""The folder of a run: what it holds, when it may be gone on with, and what it remembers."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from farfield import files
from farfield.errors import DataError, OutputError, SettingsError
from farfield.training import Checkpoint

SETTINGS = "settings.json"
METRICS = "metrics.csv"
PREDICTIONS = "predictions.parquet"
CHECKPOINTS = "checkpoints"
REPORT = "report.html"
CERTIFICATE = "certificate.json"
DIAGNOSIS = "diagnosis.json"
PREDICTED = "predictions.csv"
LIMITS = "limits.csv"
THEORY = "theory.csv"
FIGURES = "figures"
_OWN_FILES = (
    METRICS,
    PREDICTIONS,
    REPORT,
    CERTIFICATE,
    DIAGNOSIS,
    PREDICTED,
    LIMITS,
    THEORY,
    SETTINGS,
)  # the record goes last when removed
_OWN_FOLDERS = {CHECKPOINTS: (".pt", ".parquet"), FIGURES: (".png", ".svg")}
_LIBRARIES = (
    *("farfield", "torch", "numpy", "scipy", "pandas", "pyarrow", "matplotlib"),
    *("xgboost", "xgboost-cpu", "scikit-learn", "statsmodels", "laplace-torch"),
)


class Workspace:
    """Where a study keeps its results while it runs; without a folder nothing is kept.

    Attributes:
        folder: The folder, or ``None``.
        record: Study, settings, data, versions and machine, as in ``settings.json``.
    """

    def __init__(self, folder: Path | None, record: dict[str, object]) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def open(
        cls,
        out: Path | str | None,
        study: str,
        settings: object,
        *,
        data: Mapping[str, object] | None = None,
        resume: bool | None = False,
        overwrite: bool = False,
    ) -> Workspace:
        """Make or enter the folder of a run and write down what is going to be run.

        Args:
            out: The folder; ``None`` keeps nothing.
            study: Name of the study.
            settings: Its settings, a data class.
            data: What identifies the data.
            resume: Go on with the run in the folder, if there is one; ``None`` for a study that
                cannot.
            overwrite: Remove the run in the folder first.

        Returns:
            The workspace.

        Raises:
            SettingsError: Both ``resume`` and ``overwrite``, or a run to resume that has other
                settings.
            OutputError: The folder holds a run and neither was asked, or cannot be written to.
            DataError: The folder's ``settings.json`` cannot be read.
        """
        if resume and overwrite:
            raise SettingsError("Resume and overwrite exclude each other; choose one.")
        record = _record(study, settings, data or {})
        if out is None:
            return cls(None, record)
        folder = Path(out)
        if (folder / SETTINGS).exists():
            if overwrite:
                _earlier(folder)
                _remove(folder)
            elif resume:
                record = _resumed(folder, record)
            else:
                go_on = "" if resume is None else "go on with it by --resume, "
                raise OutputError(
                    f"The folder {folder} already holds a run; {go_on}replace it by --overwrite, "
                    "or name another folder with --out."
                )
        else:
            strangers = [n for n in (*_OWN_FILES, *_OWN_FOLDERS) if (folder / n).exists()]
            if strangers:
                raise OutputError(
                    f"The folder {folder} holds {', '.join(strangers)}, but no run of farfield; "
                    "name another folder with --out."
                )
        files.make_folder(folder)
        for part in (folder, *(folder / name for name in _OWN_FOLDERS)):
            files.remove_unfinished(part)
        workspace = cls(folder, record)
        workspace._write_record("running")
        return workspace

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Where a fleet keeps its progress.

        Args:
            name: Name of the fleet, unique in the run.

        Returns:
            The checkpoint, or ``None`` without a folder.
        """
        if self.folder is None:
            return None
        files.make_folder(self.folder / CHECKPOINTS)
        return Checkpoint(self.folder / CHECKPOINTS / f"{name}.pt")

    def part(self, name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table that is computed once: a resumed run reads it.

        Args:
            name: Name of the table, unique in the run.
            compute: Computes it.

        Returns:
            The table.

        Raises:
            DataError: What an earlier run has written cannot be read.
        """
        if self.folder is None:
            return compute()
        path = self.folder / CHECKPOINTS / f"{name}.parquet"
        if path.exists():
            try:
                return pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path} cannot be read ({type(error).__name__}); remove it, and it is "
                    "computed again."
                ) from error
        frame = compute()
        files.make_folder(path.parent)
        content = io.BytesIO()
        frame.to_parquet(content, index=False)
        files.write_bytes(path, content.getvalue())
        return frame

    def save(self, metrics: pd.DataFrame, predictions: pd.DataFrame) -> None:
        """Write the results so far; called whenever a part of the study is finished.

        Args:
            metrics: A row for each network and thing measured.
            predictions: A row for each prediction.
        """
        if self.folder is None:
            return
        self.write(METRICS, metrics.to_csv(index=False))
        content = io.BytesIO()
        predictions.to_parquet(content, index=False)
        files.write_bytes(self.folder / PREDICTIONS, content.getvalue())

    def write(self, name: str, text: str) -> None:
        """Write a further file of the run.

        Args:
            name: One of the names that a run may write.
            text: What it shall hold.
        """
        assert name in _OWN_FILES, name
        if self.folder is not None:
            files.write_text(self.folder / name, text)

    @contextlib.contextmanager
    def kept_if_finished(self) -> Iterator[None]:
        """Of a run that cannot be resumed nothing is kept if it fails or is stopped."""
        try:
            yield
        except BaseException:
            if self.folder is not None:
                _remove(self.folder)
                with contextlib.suppress(OSError):  # others' files may be there too
                    self.folder.rmdir()
            raise

    def finish(self) -> None:
        """Note that the run is complete."""
        if self.folder is not None:
            self._write_record("finished")

    def _write_record(self, status: str) -> None:
        assert self.folder is not None
        content = json.dumps({"status": status, **self.record}, indent=2) + "\n"
        files.write_text(self.folder / SETTINGS, content)


def _record(study: str, settings: object, data: Mapping[str, object]) -> dict[str, Any]:
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise SettingsError(f"The settings of {study} must be a data class with its values.")
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    values = dataclasses.asdict(settings)
    record = {
        "study": study,
        "settings": values,
        "seeds": list(range(values.get("seeds", 1))),
        "data": dict(data),
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }
    # As it will be read back, so that a resumed run compares like with like.
    decoded: dict[str, Any] = json.loads(json.dumps(record))
    return decoded


def _earlier(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder."""
    path = folder / SETTINGS
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key in ("study", "settings", "data", "versions", "machine"):
            earlier[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as the record of a run of farfield "
            f"({type(error).__name__}); name another folder with --out, or remove the file."
        ) from error
    return earlier


def _resumed(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record to go on with: the earlier one, if it is that of the same run.

    What the numbers depend on must be the same, so that they do not depend on the interruption.
    """
    earlier = _earlier(folder)
    before, now = (
        {
            "study": run["study"],
            **run["settings"],
            "table (sha256)": run["data"].get("sha256"),
            "PyTorch version": run["versions"].get("torch"),
            "number of threads (--threads)": run["machine"].get("threads"),
        }
        for run in (earlier, record)
    )
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key):
            raise SettingsError(
                f"The run in {folder} cannot be resumed: its {key} is {before.get(key)!r}, now "
                f"it would be {now.get(key)!r}. Give the same as before, or another folder with "
                "--out."
            )
    earlier.pop("status", None)
    return earlier


def _remove(folder: Path) -> None:
    """Remove the files that a run writes, and nothing else."""
    try:
        for name, endings in _OWN_FOLDERS.items():
            for path in (folder / name).glob("*"):
                if path.suffix in endings:
                    path.unlink()
        for name in _OWN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot remove the earlier run in {folder}: {error.strerror or error}."
        ) from error
