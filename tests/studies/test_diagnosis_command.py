"""`farfield diagnose`: a user's file, arrays that cannot run code, what is written."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import farfield as ff
from farfield.diagnosis import Draws
from farfield.studies import diagnosis

SOURCE = """
import farfield as ff


def build():
    return ff.gaussian_init_(ff.mlp(2, [6, 6, 6], 1), weight_var=2.5, bias_var=0.0)


def classes():
    return ff.mlp(2, [6], 3)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    Path("net.py").write_text(SOURCE)
    x = np.random.default_rng(0).standard_normal((9, 2))
    np.save("x.npy", x)
    np.save("y.npy", x[:, 0].astype("f4"))
    np.save("classes.npy", np.arange(9, dtype=np.uint8) % 3)
    np.save("words.npy", np.array(["a", "b"]))
    np.save("objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save("number.npy", np.array(3.0))
    np.save("wide.npy", np.zeros((4, 5)))
    np.savez("several.npz", a=x)
    return tmp_path


def test_a_run_writes_diagnosis_tables_and_report(command, folder: Path) -> None:
    arguments = ("diagnose", "net.py:build", "--data", "x.npy", "--targets", "y.npy")
    options = ("--draws", 8, "--steps", 3, "--out", "run")
    code, out, err = command(*arguments, *options)
    assert code == 0, err
    assert "Kernel random at initialisation: one draw says little." in out
    assert out.splitlines()[-1] == f"Report: {folder / 'run' / 'report.html'}"
    saved = json.loads(Path("run/diagnosis.json").read_text())
    assert saved["source"] == "by build(), called for each draw"
    assert len(saved["log_kernels"]) == 8
    assert saved["dispersion"]["predicted"] > 1.1
    assert saved["training"]["steps"] == 3
    metrics = pd.read_csv("run/metrics.csv")
    assert list(metrics.columns) == ["quantity", "value", "remark"]
    page = Path("run/report.html").read_text()
    assert "Does tangent-kernel theory describe this network" in page
    assert {path.stem for path in Path("run/figures").iterdir()} == {
        "kernels",
        "gradients",
        "agreement",
    }
    # The same numbers as from Python.
    settings = diagnosis.Settings("net.py:build", "x.npy", "y.npy", draws=8, steps=3)
    assert diagnosis.run(settings).diagnosis.as_dict() == saved
    # A second run does not overwrite.
    code, _, err = command(*arguments, *options)
    assert code == 2
    assert "already holds a run" in err


def test_classes_are_targets(folder: Path) -> None:
    settings = diagnosis.Settings("net.py:classes", "x.npy", "classes.npy", draws=4, steps=2)
    told = diagnosis.run(settings).diagnosis
    network = Draws(lambda: ff.mlp(2, [6], 3), 0).network(0)
    assert told.training is not None
    x = torch.from_numpy(np.load("x.npy")).float()
    y = torch.eye(3)[torch.from_numpy(np.load("classes.npy")).long()]
    loss = (network(x) - y).square().mean()
    assert told.training.loss_before == pytest.approx(float(loss.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "words.npy"), "words.npy holds <U1; the inputs must be numbers"),
        (("--data", "objects.npy"), "objects.npy cannot be read as an array without running code"),
        (("--data", "number.npy"), "need a row for each sample"),
        (("--data", "several.npz"), "several.npz holds several arrays"),
        (("--data", "wide.npy"), "does not take inputs of shape (5,)"),
        (("--data", "x.npy", "--targets", "wide.npy"), "4 targets for 9 inputs"),
        (("--data", "x.npy", "--draws", 1), "draws is 1"),
    ],
)
def test_bad_input_is_one_sentence(command, folder: Path, arguments, said) -> None:
    code, _, err = command("diagnose", "net.py:build", *arguments, "--out", "run")
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()[-1]) > len(said)
    assert "Traceback" not in err
    assert not Path("run").exists()
