"""The folder of a run."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from farfield.errors import DataError, OutputError, SettingsError
from farfield.studies.shared.workspace import Workspace


@dataclass(frozen=True)
class Settings:
    seeds: int = 2
    widths: tuple[int, ...] = (3, 4)


FRAME = pd.DataFrame({"a": [1.5]})


def test_what_a_finished_run_holds(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "run", "study", Settings(), data={"sha256": "x"})
    workspace.save(FRAME, FRAME)
    workspace.finish()
    record = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert record["status"] == "finished"
    assert record["settings"] == {"seeds": 2, "widths": [3, 4]}
    assert record["seeds"] == [0, 1]
    assert record["data"] == {"sha256": "x"}
    assert {"python", "torch", "numpy", "farfield"} <= record["versions"].keys()
    assert pd.read_csv(tmp_path / "run" / "metrics.csv").equals(FRAME)
    assert pd.read_parquet(tmp_path / "run" / "predictions.parquet").equals(FRAME)


def test_without_a_folder_nothing_is_kept() -> None:
    workspace = Workspace.open(None, "study", Settings())
    workspace.save(FRAME, FRAME)
    workspace.finish()
    assert workspace.checkpoint("fleet") is None


def test_an_earlier_run_is_not_touched_unasked(tmp_path: Path) -> None:
    Workspace.open(tmp_path, "study", Settings()).save(FRAME, FRAME)
    with pytest.raises(OutputError, match="already holds a run"):
        Workspace.open(tmp_path, "study", Settings())
    assert (tmp_path / "metrics.csv").exists()


def test_resume_keeps_and_overwrite_removes_its_own_only(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds figures, but no run"):
        Workspace.open(tmp_path, "study", Settings())
    (tmp_path / "figures").rename(tmp_path / "other")
    workspace = Workspace.open(tmp_path, "study", Settings())
    workspace.save(FRAME, FRAME)
    checkpoint = workspace.checkpoint("fleet")
    assert checkpoint is not None
    checkpoint.path.write_text("progress")
    Workspace.open(tmp_path, "study", Settings(), resume=True)
    assert checkpoint.path.exists()
    Workspace.open(tmp_path, "study", Settings(seeds=3), overwrite=True)
    assert not checkpoint.path.exists()
    assert not (tmp_path / "metrics.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_numbers_are_not_continued_with_other_threads_or_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace.open(tmp_path, "study", Settings())
    before = json.loads((tmp_path / "settings.json").read_text())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with pytest.raises(SettingsError, match=r"number of threads \(--threads\) is .* 99"):
        Workspace.open(tmp_path, "study", Settings(), resume=True)
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.0")
    with pytest.raises(SettingsError, match=r"PyTorch version is .* '0\.0'"):
        Workspace.open(tmp_path, "study", Settings(), resume=True)
    monkeypatch.undo()
    Workspace.open(tmp_path, "study", Settings(), resume=True)
    assert json.loads((tmp_path / "settings.json").read_text()) == before


def test_resume_where_nothing_is_begins(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "new", "study", Settings(), resume=True)
    assert (tmp_path / "new" / "settings.json").exists()


@pytest.mark.parametrize(
    ("study", "settings", "data", "message"),
    [
        ("study", Settings(seeds=3), {}, "its seeds is 2, now it would be 3"),
        ("other", Settings(), {}, "its study is 'study', now it would be 'other'"),
        ("study", Settings(), {"sha256": "y"}, r"its table \(sha256\) is None"),
    ],
)
def test_another_run_is_not_resumed(
    tmp_path: Path, study: str, settings: Settings, data: dict[str, str], message: str
) -> None:
    Workspace.open(tmp_path, "study", Settings())
    with pytest.raises(SettingsError, match=message):
        Workspace.open(tmp_path, study, settings, data=data, resume=True)


def test_contradiction_damage_and_strangers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="exclude each other"):
        Workspace.open(tmp_path, "study", Settings(), resume=True, overwrite=True)
    (tmp_path / "settings.json").write_text("{ half")
    with pytest.raises(DataError, match=r"settings\.json cannot be read"):
        Workspace.open(tmp_path, "study", Settings(), resume=True)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "metrics.csv").write_text("not ours")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(OutputError, match="but no run of farfield"):
            Workspace.open(stranger, "study", Settings(), resume=resume, overwrite=overwrite)
    (stranger / "settings.json").write_text('{"theirs": true}')
    with pytest.raises(DataError, match="as the record of a run of farfield"):
        Workspace.open(stranger, "study", Settings(), overwrite=True)
    assert (stranger / "metrics.csv").read_text() == "not ours"
