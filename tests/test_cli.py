"""The command line: what it prints, and one clear sentence for bad input."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from farfield.studies import (
    abalone,
    demo,
    dispersion,
    dynamics,
    ella,
    placements,
    protein,
    tabular,
    toy,
    variance,
)

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def csv(table: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    return path


SPLIT = ("--target", "price", "--split-column", "size", "--threshold", 7)
PRICE = ("--target", "price")
SHORT = ("--epochs", 2, "--seeds", 2, "--hidden", "8,8")


def _spent() -> float:
    """Processor time of the processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_help_answers_fast_and_without_torch() -> None:
    """Under a second of processor time, the best of three: other tests may run beside it."""
    times = []
    for _ in range(3):
        begin = _spent()
        done = subprocess.run(
            [sys.executable, "-m", "farfield", "--help"], capture_output=True, text=True, check=True
        )
        times.append(_spent() - begin)
    for name in ("extrapolate", "reproduce", "list", "demo", "certify", "diagnose", "regress"):
        assert name in done.stdout
    assert min(times) < 1.0
    script = "import farfield.cli, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["extrapolate"], ["reproduce"], ["reproduce", "toy"], ["reproduce", "protein"]),
        *(["demo"], ["certify"], ["diagnose"], ["regress"], ["reproduce", "transformer"]),
        *(["reproduce", name] for name in ("faces", "rotated", "heatmaps", "theorems", "paper")),
        *(["reproduce", name] for name in ("dispersion", "dynamics", "variance")),
        *(["reproduce", name] for name in ("abalone", "placements", "ella")),
        ["kernel"],
    ],
)
def test_every_command_has_help(command: Command, arguments: list[str]) -> None:
    code, out, _ = command(*arguments, "--help")
    assert code == 0
    assert "--help" in out


def test_help_tells_the_defaults_that_are(command: Command) -> None:
    def text(*arguments: str) -> str:
        return " ".join(command(*arguments, "--help")[1].replace("│", " ").split())

    assert tabular.Settings("a", "b", 1.0).seeds == toy.Settings().seeds == 5
    assert protein.Settings().seeds == 10
    assert f"{protein.Settings().epochs} epochs and 10 seeds" in text("reproduce", "protein")
    assert f"{toy.Settings().epochs} epochs and 5 seeds" in text("reproduce", "toy")
    assert f"{dispersion.Settings().draws} networks" in text("reproduce", "dispersion")
    assert f"{dynamics.Settings().epochs} epochs" in text("reproduce", "dynamics")
    assert f"{variance.Settings().seeds} networks" in text("reproduce", "variance")
    assert abalone.Settings().seeds == 10
    assert f"{abalone.Settings().epochs} epochs and 10 seeds" in text("reproduce", "abalone")
    assert f"{placements.Settings().seeds} seeds by default" in text("reproduce", "placements")
    assert f"{ella.Settings().seeds} seeds by default" in text("reproduce", "ella")
    assert f"{tabular.Settings('a', 'b', 1.0).epochs} epochs and 5 seeds" in text("extrapolate")
    assert "CPU threads [default: all cores]" in text("certify")  # brackets are no markup


def test_list_and_version(command: Command) -> None:
    code, out, _ = command("list")
    assert code == 0
    assert "protein" in out
    assert "toy" in out
    code, out, _ = command("--version")
    assert (code, out) == (0, "farfield 0.1.0\n")


def test_extrapolate_writes_everything(command: Command, csv: Path, tmp_path: Path) -> None:
    out_folder = tmp_path / "run"
    code, out, err = command("extrapolate", csv, *SPLIT, *SHORT, "--out", out_folder)
    assert code == 0, err
    assert "Take " in out
    assert f"Report: {out_folder / 'report.html'}" in out
    written = {path.name for path in out_folder.iterdir()}
    assert written == {
        "settings.json",
        "metrics.csv",
        "predictions.parquet",
        "report.html",
        "figures",
        "checkpoints",
    }
    record = json.loads((out_folder / "settings.json").read_text())
    assert record["status"] == "finished"
    assert record["settings"]["hidden"] == [8, 8]
    metrics = pd.read_csv(out_folder / "metrics.csv")
    assert set(metrics["variant"]) == {"standard", "first", "last", "every", "xgboost"}
    assert f"farfield extrapolate {csv}" in (out_folder / "report.html").read_text()


def test_parquet_and_groups(command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    code, out, err = command(
        *("extrapolate", path, "--target", "price", "--group-column", "colour"),
        *("--hold-out", "red", "--hold-out", "blue", "--no-xgboost", *SHORT),
        *("--out", tmp_path / "run"),
    )
    assert code == 0, err
    assert "XGBoost" not in out


def test_a_run_is_kept_resumed_and_replaced_as_asked(
    command: Command, csv: Path, tmp_path: Path
) -> None:
    arguments = ("extrapolate", csv, *SPLIT, *SHORT, "--out", tmp_path / "run")
    assert command(*arguments)[0] == 0
    first = (tmp_path / "run" / "metrics.csv").read_bytes()
    code, _, err = command(*arguments)
    assert code == 2
    assert "--resume" in err
    assert command(*arguments, "--resume")[0] == 0
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == first
    code, _, err = command(*arguments, "--resume", "--seeds", 3)
    assert code == 2
    assert "its seeds is 2, now it would be 3" in err
    assert command(*arguments, "--overwrite", "--seeds", 3)[0] == 0


def test_quick_gives_way_to_what_is_given(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        *("reproduce", "toy", "--quick", "--epochs", 3, "--norm", "rms", "--activation", "silu"),
        *("--no-overlays", "--threads", 1, "--device", "cpu", "--out", tmp_path / "run"),
    )
    assert code == 0, err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert settings["seeds"] == toy.QUICK["seeds"]
    assert settings["epochs"] == 3
    assert (settings["norm"], settings["activation"]) == ("rms", "silu")


def test_demo_writes_one_report_of_both(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toy.Settings() == demo.TOY  # the paper's scale
    monkeypatch.setattr(demo, "TOY", toy.Settings(overlays=False, seeds=1, epochs=2, hidden=(4, 4)))
    monkeypatch.setattr(demo, "DIABETES", replace(demo.DIABETES, seeds=1, epochs=2))
    code, out, err = command("demo", "--out", tmp_path / "demo")
    assert code == 0, err
    page = tmp_path / "demo" / "report.html"
    assert out.splitlines()[-1] == f"Report: {page}"
    assert page.read_text().count("<article") == 2
    for part in ("toy", "diabetes"):
        assert (tmp_path / "demo" / part / "report.html").exists()
    assert command("demo", "--out", tmp_path / "demo")[0] == 2
    assert command("demo", "--out", tmp_path / "demo", "--overwrite")[0] == 0


# What a user may get wrong, and what the sentence must say. CSV stands for a good table, OUT for
# the folder that must not come to be.
BAD: dict[str, tuple[tuple[object, ...], str]] = {
    "missing file": (("extrapolate", "absent.csv", *SPLIT), "There is no file absent.csv"),
    "empty file": (("extrapolate", "empty.csv", *SPLIT), "empty.csv is empty"),
    "unreadable file": (("extrapolate", "garbage.csv", *SPLIT), "cannot be read as CSV"),
    "unreadable parquet": (("extrapolate", "bad.parquet", *SPLIT), "cannot be read as Parquet"),
    "absent target": (
        ("extrapolate", "CSV", "--target", "cost", "--split-column", "size", "--threshold", 7),
        "no column 'cost'; its columns are size, colour, flat, price",
    ),
    "absent split column": (
        ("extrapolate", "CSV", "--target", "price", "--split-column", "len", "--threshold", 7),
        "no column 'len'",
    ),
    "absent group column": (
        ("extrapolate", "CSV", "--target", "price", "--group-column", "len", "--hold-out", "x"),
        "no column 'len'",
    ),
    "absent group": (
        ("extrapolate", "CSV", "--target", "price", "--group-column", "colour", "--hold-out", "x"),
        "no group 'x'; its groups are blue, green, red",
    ),
    "text target": (
        ("extrapolate", "CSV", "--target", "colour", "--split-column", "size", "--threshold", 7),
        "target 'colour' is not numeric",
    ),
    "text split column": (
        ("extrapolate", "CSV", "--target", "price", "--split-column", "colour", "--threshold", 7),
        "split column 'colour' is not numeric",
    ),
    "infinity": (("extrapolate", "infinite.csv", *SPLIT), "'flat' holds 1 infinite value"),
    "all missing": (("extrapolate", "missing.csv", *SPLIT), "Every row has a missing value"),
    "threshold too low": (
        ("extrapolate", "CSV", *SPLIT[:-1], -5),
        "leaves 0 rows inside the training domain",
    ),
    "threshold too high": (
        ("extrapolate", "CSV", *SPLIT[:-1], 1e9),
        "leaves 0 rows outside the training domain",
    ),
    "threshold not a number": (("extrapolate", "CSV", *SPLIT[:-1], "nan"), "must be a finite"),
    "threshold text": (("extrapolate", "CSV", *SPLIT[:-1], "high"), "--threshold"),
    "no split": (("extrapolate", "CSV", "--target", "price"), "Say how to split"),
    "no target": (("extrapolate", "CSV"), "--target"),
    "zero seeds": (("reproduce", "toy", "--seeds", 0), "seeds is 0; it must be at least 1"),
    "negative seeds": (("extrapolate", "CSV", *SPLIT, "--seeds", -3), "seeds is -3"),
    "zero epochs": (("reproduce", "toy", "--epochs", 0), "epochs is 0"),
    "zero threads": (("reproduce", "toy", "--threads", 0), "threads is 0"),
    "too many threads": (("reproduce", "toy", "--threads", 99999), "threads is 99999"),
    "huge network": (
        ("extrapolate", "CSV", *SPLIT, "--hidden", "8,-1"),
        "a hidden width is -1",
    ),
    "bad widths": (("extrapolate", "CSV", *SPLIT, "--hidden", "8,x"), "'8,x' are not whole"),
    "zero width": (("extrapolate", "CSV", *SPLIT, "--hidden", "8,0"), "a hidden width is 0"),
    "zero batch": (("extrapolate", "CSV", *SPLIT, "--batch-size", 0), "batch_size is 0"),
    "bad learning rate": (
        ("extrapolate", "CSV", *SPLIT, "--learning-rate", "nan"),
        "learning_rate is nan",
    ),
    "unknown activation": (("reproduce", "toy", "--activation", "rely"), "'rely' is unknown"),
    "unknown norm": (("reproduce", "toy", "--norm", "group"), "'group' is unknown"),
    "unknown device": (("reproduce", "toy", "--device", "abacus"), "'abacus' cannot be used"),
    "unknown study": (("reproduce", "toys"), "The studies are toy, protein, "),
    "unknown command": (("extrapolat",), "No such command"),
    "unknown option": (("reproduce", "toy", "--sed", 1), "No such option"),
    "no data in the folder": (
        ("reproduce", "protein", "--data", "."),
        "has no protein.csv or CASP.csv; get it from https://",
    ),
    "model without a function": (("certify", "net.py"), "not of the form my_model.py:build"),
    "missing model": (("certify", "absent.py:build"), "There is no file absent.py"),
    "model that is no Python": (("certify", "garbage.csv:build"), "is not a Python file"),
    "broken model": (("certify", "broken.py:build"), "broken.py failed: SyntaxError"),
    "absent function": (("certify", "net.py:make"), "net.py has no function 'make'"),
    "function that fails": (("certify", "net.py:fails"), "fails() of net.py failed: KeyError"),
    "function that returns no module": (("certify", "net.py:number"), "returned a int"),
    "missing weights": (
        ("certify", "net.py:build", "--weights", "absent.pt"),
        "There is no file absent.pt",
    ),
    "weights that could run code": (
        ("certify", "net.py:build", "--weights", "code.pt"),
        "cannot be read as a state dict without running code",
    ),
    "weights that are no state dict": (
        ("certify", "net.py:build", "--weights", "list.pt"),
        "holds a list and not a state dict",
    ),
    "weights of another model": (
        ("certify", "net.py:build", "--weights", "other.pt"),
        "'weight' has shape (1, 5) instead of (1, 2)",
    ),
    "safetensors without the library": (
        ("certify", "net.py:build", "--weights", "net.safetensors"),
        "pip install 'farfield[safetensors]'",
    ),
    "wrong input shape": (("certify", "net.py:build", "--input-shape", "3"), "takes 2 features"),
    "input shape in words": (("certify", "net.py:build", "--input-shape", "x"), "'x' is not whole"),
    "empty box": (("certify", "net.py:build", "--box", 1, -1), "box from 1 to -1 is empty"),
    "unknown operation": (("certify", "net.py:sorts"), "sort has no rule in certificates"),
    "diagnose without inputs": (("diagnose", "net.py:build"), "Missing option '--data'"),
    "missing inputs": (
        ("diagnose", "net.py:build", "--data", "absent.npy"),
        "There is no file absent.npy",
    ),
    "inputs that are no array": (
        ("diagnose", "net.py:build", "--data", "garbage.csv"),
        "garbage.csv cannot be read as an array without running code",
    ),
    "regress without a new table": (("regress", "CSV", "--target", "price"), "Missing argument"),
    "regress without a target": (("regress", "CSV", "CSV"), "--target"),
    "missing training table": (("regress", "absent.csv", "CSV", *PRICE), "no file absent.csv"),
    "missing new table": (("regress", "CSV", "absent.csv", *PRICE), "no file absent.csv"),
    "unreadable new table": (("regress", "CSV", "garbage.csv", *PRICE), "garbage.csv cannot be"),
    "absent column to regress on": (
        ("regress", "CSV", "CSV", "--target", "cost"),
        "no column 'cost'; its columns are size, colour, flat, price",
    ),
    "text target of regress": (
        ("regress", "CSV", "CSV", "--target", "colour"),
        "'colour' is not numeric",
    ),
    "target that is ignored": (("regress", "CSV", "CSV", *PRICE, "--ignore", "price"), "ignored"),
    "new table lacks a column": (
        ("regress", "CSV", "narrow.csv", *PRICE),
        "In narrow.csv: The new table has no column 'colour', a feature of the training table",
    ),
    "new table has text for numbers": (
        ("regress", "CSV", "words.csv", *PRICE),
        "In words.csv: The new table's column 'size' is not numeric, for example 'big'",
    ),
    "infinity in training": (
        ("regress", "infinite.csv", "CSV", *PRICE),
        "In infinite.csv: The column 'flat' holds 1 infinite value",
    ),
    "infinity in the new table": (
        ("regress", "CSV", "infinite.csv", *PRICE),
        "In infinite.csv: The new table's column 'flat' holds 1 infinite value",
    ),
    "negative ridge": (("regress", "CSV", "CSV", *PRICE, "--ridge", -1), "ridge is -1.0"),
    "ridge that is no number": (("regress", "CSV", "CSV", *PRICE, "--ridge", "much"), "--ridge"),
    "no hidden layer": (("regress", "CSV", "CSV", *PRICE, "--hidden", 0), "hidden is 0"),
    "unknown place of the norm": (
        ("regress", "CSV", "CSV", *PRICE, "--norm", "middle"),
        "norm is 'middle'; choose one of first, last, every, none",
    ),
    "unknown deviation": (("regress", "CSV", "CSV", *PRICE, "--std", "both"), "std is 'both'"),
    "unknown kernel": (("regress", "CSV", "CSV", *PRICE, "--kernel", "rbf"), "kernel is 'rbf'"),
    "ensemble of a Bayesian network": (
        ("regress", "CSV", "CSV", *PRICE, "--kernel", "nngp"),
        "--std posterior",
    ),
    "unknown activation to regress": (
        ("regress", "CSV", "CSV", *PRICE, "--activation", "rely"),
        "'rely' is unknown",
    ),
    "no rows": (("regress", "CSV", "CSV", *PRICE, "--rows", 0), "rows is 0"),
    "negative seed": (("regress", "CSV", "CSV", *PRICE, "--seed", -1), "seed is -1"),
    "negative variance": (("regress", "CSV", "CSV", *PRICE, "--bias-var", -1), "bias_var is -1"),
    "no shells in the folder": (
        ("reproduce", "abalone", "--data", "."),
        "has no abalone.csv or abalone.data; get it from https://",
    ),
    "unknown task": (("reproduce", "placements", "--tasks", "sine,cubic"), "no task 'cubic'"),
    "wrong checksum": (("reproduce", "protein", "--data", "wrong"), "is not the published file"),
}


NET = """
import torch
from torch import nn


def build():
    return nn.Linear(2, 1)


def fails():
    return {}["nothing"]


def number():
    return 1


class Sorts(nn.Module):
    def forward(self, x):
        return nn.functional.linear(x, torch.ones(1, 2, dtype=x.dtype)).sort().values


def sorts():
    return nn.Sequential(nn.Linear(2, 2), Sorts())
"""


@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    command: Command, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("garbage.csv").write_bytes(b"\xff\xfe\x00\x81" * 20)
    Path("bad.parquet").write_bytes(b"PAR1")
    Path("infinite.csv").write_text(csv.read_text().replace("7.0", "inf", 1))
    Path("missing.csv").write_text("size,colour,flat,price\n1,red,,2\n3,red,,4\n")
    Path("narrow.csv").write_text("size,flat\n1,2\n")
    Path("words.csv").write_text("size,flat,colour\nbig,7,red\nhuge,7,red\n")
    Path("net.py").write_text(NET)
    Path("broken.py").write_text("def build(:\n")
    Path("net.safetensors").touch()
    torch.save({"weight": torch.zeros(1, 5), "bias": torch.zeros(1)}, "other.pt")
    torch.save([1], "list.pt")
    Path("code.pt").write_bytes(pickle.dumps(print))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    Path("wrong").mkdir()
    Path("wrong/protein.csv").write_text("RMSD,F1\n1,2\n")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[case]
    code, _, err = command(*[csv if a == "CSV" else a for a in arguments], *_out(arguments))
    assert code == 2
    assert message in err
    assert err.startswith("farfield: ")
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def _out(arguments: tuple[object, ...]) -> tuple[str, ...]:
    return ("--out", "OUT") if len(arguments) > 1 and arguments[1] != "toys" else ()


@pytest.mark.parametrize("out", ["file", "file/inner", "/dev/null/run"])
def test_a_folder_that_cannot_be_written(
    command: Command, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    code, _, err = command("extrapolate", csv, *SPLIT, *SHORT, "--out", out)
    assert code == 2
    assert "Cannot write to the folder" in err
    assert len(err.splitlines()) == 1


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_kill_in_the_middle_and_resume_give_the_same_numbers(tmp_path: Path) -> None:
    """Killed without warning while training; nothing is half-written, and resuming ends alike."""

    def arguments(out: str) -> list[str]:
        return [
            *(sys.executable, "-m", "farfield", "reproduce", "toy", "--seeds", "1"),
            *("--epochs", "600", "--threads", "1", "--out", str(tmp_path / out)),
        ]

    straight = subprocess.run(arguments("straight"), capture_output=True, env=_environment())
    assert straight.returncode == 0
    running = subprocess.Popen(arguments("killed"), env=_environment(), stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 60
    while not (checkpoints / "standard.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "killed" / "report.html").exists()
    assert json.loads((tmp_path / "killed" / "settings.json").read_text())["status"] == "running"
    resumed = subprocess.run(
        [*arguments("killed"), "--resume"], capture_output=True, text=True, env=_environment()
    )
    assert resumed.returncode == 0, resumed.stderr
    for name in ("metrics.csv", "predictions.parquet", "figures/predictions.svg"):
        one, two = (tmp_path / run / name for run in ("straight", "killed"))
        assert one.read_bytes() == two.read_bytes(), name
    assert not list((tmp_path / "killed").rglob(".unfinished*"))


def test_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "farfield", "reproduce", "toy", "--threads", "1"),
            *("--out", str(tmp_path / "run"), "--overwrite"),
        ],
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
        # Shells let what they start in the background ignore interrupts, and it inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "settings.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    try:
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
    # Python ends itself by the signal when it came inside exec(); a shell shows 130 for both.
    assert running.returncode in (130, -signal.SIGINT)
    assert f"farfield reproduce toy --threads 1 --out {tmp_path / 'run'} --resume" in err


def test_a_full_disk_in_the_middle_is_one_sentence(csv: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: settings fit, checkpoints do not."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "farfield", "extrapolate", str(csv), *map(str, SPLIT)),
            *("--epochs", "2", "--seeds", "3", "--threads", "1", "--out", str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        env=_environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("farfield: Cannot write ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or path.name == "settings.json"
