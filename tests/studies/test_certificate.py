"""`farfield certify`: a user's file, weights that cannot run code, what is written."""

import json
import math
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from farfield.errors import DataError, SettingsError
from farfield.growth import build_model, certify_model, load_weights
from farfield.studies import certificate

SOURCE = """
from torch import nn
from neighbour import WIDTH


def build():
    return nn.Sequential(nn.Linear(2, WIDTH), nn.LayerNorm(WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2))


def plain():
    return nn.Sequential(nn.Linear(2, WIDTH), nn.ReLU(), nn.Dropout(0.5), nn.Linear(WIDTH, 1))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("neighbour.py").write_text("WIDTH = 6\n")
    Path("net.py").write_text(SOURCE)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2))
    torch.save(model.state_dict(), "weights.pt")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, "checkpoint.pt")
    yield tmp_path
    sys.modules.pop("neighbour", None)


def test_a_run_writes_certificate_tables_and_report(command, folder: Path) -> None:
    code, out, err = command("certify", "net.py:build", "--weights", "weights.pt", "--out", "run")
    assert code == 0, err
    assert "Bounded, for every input of R^2." in out
    assert out.splitlines()[-1] == f"Report: {folder / 'run' / 'report.html'}"
    saved = json.loads(Path("run/certificate.json").read_text())
    assert saved["bounded"] is True
    assert saved["reason"] == "LayerNorm '1' bounds everything after it."
    model = build_model("net.py:build")
    load_weights(model, Path("weights.pt"))
    cert = certify_model(model.eval())
    assert saved["bound"]["upper"] == pytest.approx(cert.bound.upper.tolist())
    value = model.double()(torch.tensor(saved["worst_found"]["input"]).double()[None])
    assert value.abs().max().item() == pytest.approx(saved["worst_found"]["value"])
    metrics = pd.read_csv("run/metrics.csv")
    assert (metrics["proven_least"] <= metrics["least_found"]).all()
    assert (metrics["largest_found"] <= metrics["proven_largest"]).all()
    record = json.loads(Path("run/settings.json").read_text())
    assert record["status"] == "finished"
    assert record["settings"]["model"] == "net.py:build"
    assert "farfield certify net.py:build" in Path("run/report.html").read_text()
    assert Path("run/figures/rays.png").exists()
    assert command("certify", "net.py:build", "--out", "run")[0] == 2
    code, out, _ = command("certify", "net.py:plain", "--out", "run", "--overwrite")
    assert code == 0
    assert "Grows, degree 1" in out.replace("\n", " ")
    saved = json.loads(Path("run/certificate.json").read_text())
    assert saved["bound"]["largest"] is None
    assert saved["growth"]["found"]["degree"] == 1.0


def test_rays_are_those_of_the_model(folder: Path) -> None:
    result = certificate.run(certificate.Settings("net.py:build", "checkpoint.pt"))
    model = build_model("net.py:build")
    load_weights(model, Path("weights.pt"))
    found = result.certificate.worst_found
    ray = found.input / found.input.norm()
    own = result.predictions[result.predictions["ray"] == "through the worst input"]
    x = torch.tensor(own["radius"].to_numpy())[:, None] * ray
    values = model.double()(x)[:, found.output].detach()
    assert own["value"].to_numpy() == pytest.approx(values.numpy())
    assert own["radius"].iloc[-1] == pytest.approx(1e12)


def test_a_box_and_a_shape(folder: Path) -> None:
    settings = certificate.Settings("net.py:plain", input_shape=(2,), box=(-1.0, 1.0))
    result = certificate.run(settings)
    assert result.certificate.bounded
    assert result.predictions.empty
    assert result.story().figures == ()
    assert all(map(math.isfinite, result.metrics["proven_largest"]))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({1: torch.zeros(1)}, "holds a dict and not a state dict"),
        (
            {"module.0.weight": torch.zeros(1)},
            "'0.weight' is missing, but it has 'module.0.weight'",
        ),
    ],
)
def test_weights_of_something_else(folder: Path, state: dict, message: str) -> None:
    torch.save(state, "other.pt")
    with pytest.raises(DataError, match=message):
        load_weights(build_model("net.py:build"), Path("other.pt"))


def test_a_file_that_leaves(folder: Path) -> None:
    Path("leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(SettingsError, match=r"leaves\.py failed: SystemExit: 3"):
        build_model("leaves.py:build")


def test_safetensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the library, which is not always installed."""
    state = torch.load("weights.pt", weights_only=True)
    package, part = types.ModuleType("safetensors"), types.ModuleType("safetensors.torch")
    package.SafetensorError = RuntimeError
    part.load_file = lambda path: state
    monkeypatch.setitem(sys.modules, "safetensors", package)
    monkeypatch.setitem(sys.modules, "safetensors.torch", part)
    Path("weights.safetensors").touch()
    model = build_model("net.py:build")
    load_weights(model, Path("weights.safetensors"))
    assert torch.equal(model[0].weight, state["0.weight"])
