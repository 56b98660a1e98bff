"""The public face: names that the design fixes, typed, and loaded only when used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import resources

import pytest

import farfield as ff


@pytest.mark.parametrize("name", ff.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(ff, name))
    assert name in dir(ff)


def test_studies_are_reached_by_name() -> None:
    for study in (ff.studies.protein, ff.studies.toy):
        assert {"settings", "out", "resume"} <= inspect.signature(study.run).parameters.keys()


def test_unknown_names_are_attribute_errors() -> None:
    for module in (ff, ff.studies):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018


def test_import_alone_loads_no_torch() -> None:
    script = "import farfield, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_types_are_shipped() -> None:
    assert resources.files("farfield").joinpath("py.typed").is_file()
