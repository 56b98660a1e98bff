"""The abalone study's settings and claim and, where the published file is, a short run of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farfield.errors import DataError
from farfield.studies import abalone, protein
from farfield.studies.shared.claims import Claiming


def test_defaults_are_those_of_proteins_but_for_a_small_table() -> None:
    settings, other = abalone.Settings(), protein.Settings()
    assert (settings.target, settings.group_column, settings.hold_out) == ("rings", "sex", ("I",))
    assert (settings.split_column, settings.threshold) == (None, None)
    assert (settings.hidden, settings.seeds) == (other.hidden, other.seeds)
    assert settings.learning_rate == other.learning_rate


def test_without_the_file_it_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no abalone\.csv or abalone\.data"):
        abalone.run(data=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(
    not (Path(os.environ.get("FARFIELD_DATA", "/nowhere")) / "abalone.csv").exists(),
    reason="needs the published file in the folder that FARFIELD_DATA names",
)
def test_a_short_run_on_the_published_file() -> None:
    result = abalone.run(abalone.Settings(seeds=2, epochs=3, hidden=(4, 4), xgboost=False))
    assert result.domains == (2835, 1342, "sex other than I")
    assert isinstance(result, Claiming)
    (claim,) = result.claims()
    outside = result.metrics.query("domain == 'out'").groupby("variant")["r2"].mean()
    ahead = outside.drop("standard") > outside["standard"]
    assert claim.agrees == ahead.all()
    story = result.story()
    assert "rings" in story.question
    assert "published" not in " ".join(story.tables[0].frame.columns)
    assert [figure.name for figure in story.figures] == ["histogram", "error-by-distance"]
