"""`farfield kernel`: runs that go on, and one clear sentence where they cannot."""

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import farfield as ff
from farfield.scale import StoredKernel, open_kernel

Command = Callable[..., tuple[int, str, str]]
Files = Callable[[StoredKernel], dict[str, bytes]]

_MODEL = """
import farfield as ff

def build():
    return ff.mlp(3, [8, 8], 1, norm="layer")
"""
VARIANCES = ("--weight-var", 2, "--bias-var", 0.1)


@pytest.fixture
def job(x: torch.Tensor, tmp_path: Path) -> tuple[object, ...]:
    """The words of a job of 10 tiles in ``tmp_path / "k"``."""
    np.save(tmp_path / "rows.npy", x.numpy())
    (tmp_path / "my_model.py").write_text(_MODEL)
    return (
        *("kernel", tmp_path / "rows.npy", "--model", f"{tmp_path / 'my_model.py'}:build"),
        *("--store", tmp_path / "k", "--tile", 10),
    )


def test_a_store_is_resumed_and_repaired(
    command: Command, job: tuple[object, ...], x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    code, out, err = command(*job, *VARIANCES)
    assert code == 0, err
    assert "37 x 37 numbers in tiles of 10" in out
    stored = open_kernel(tmp_path / "k")
    limit = ff.infinite_width(ff.mlp(3, [8, 8], 1, norm="layer"), 2.0, 0.1)
    np.testing.assert_allclose(stored.array[:], limit.ntk(x).numpy(), rtol=1e-13)
    before = files(stored)
    tiles = tmp_path / "k" / "c"
    content = bytearray((tiles / "2" / "1").read_bytes())
    content[17] ^= 1
    (tiles / "2" / "1").write_bytes(content)
    (tiles / "3" / "3").unlink()
    code, _, err = command(*job, *VARIANCES)
    assert code == 2
    assert "resume that run" in err
    assert files(stored) != before
    assert command(*job, *VARIANCES, "--resume")[0] == 0
    assert files(open_kernel(tmp_path / "k")) == before


def test_another_job_is_refused_with_what_differs(
    command: Command, job: tuple[object, ...], x: torch.Tensor, tmp_path: Path, files: Files
) -> None:
    assert command(*job, *VARIANCES)[0] == 0
    before = files(open_kernel(tmp_path / "k"))
    np.save(tmp_path / "other.npy", x.numpy() + 1.0)
    (tmp_path / "other.py").write_text(_MODEL.replace("[8, 8]", "[8, 9]"))
    for words, found in {
        ("--kind", "nngp"): "kernel is nngp and was ntk",
        ("--tile", 12): "tile is 12 and was 10",
        ("--against", tmp_path / "other.npy"): "x2",
        ("--bias-var", 0.2): "other values for the same inputs",
        ("--model", f"{tmp_path / 'other.py'}:build"): "model is",
    }.items():
        code, out, err = command(*job, *VARIANCES, *words, "--resume")
        assert (code, out) == (2, ""), words
        assert "is of another job: " in err, words
        assert found in err, words
    assert files(open_kernel(tmp_path / "k")) == before


def test_a_full_disk_is_one_clear_error_and_a_store_that_goes_on(
    command: Command, job: tuple[object, ...], tmp_path: Path, files: Files
) -> None:
    whole = [str(word) for word in (*job, *VARIANCES, "--resume", "--tile", 30)]
    done = subprocess.run(
        [sys.executable, "-m", "farfield", *whole],
        # The description and small tiles fit; one of 30 x 30 numbers does not.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"Cannot write to {tmp_path / 'k'}: File too large" in said
    assert "run the same again to go on" in said
    assert "Traceback" not in said
    assert command(*whole)[0] == 0
    first = files(open_kernel(tmp_path / "k"))
    assert command(*whole, "--store", tmp_path / "again")[0] == 0
    assert files(open_kernel(tmp_path / "again")) == first


def test_the_bar_has_the_remaining_time(
    command: Command, job: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    code, _, err = command(*job, *VARIANCES)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    # Which states are drawn on the way is a question of time.
    assert re.search(r"tiles .* \d+% 0:00:\d\d remaining [-\d]", plain)
    assert re.search(r"tiles .* 100% 0:00:\d\d remaining 0:00:00", plain)


def test_bad_input(command: Command, job: tuple[object, ...], tmp_path: Path) -> None:
    for words, found in {
        ("--kind", "rbf"): "kind is 'rbf'; choose one of ntk, nngp, empirical",
        ("--workers", 0): "workers is 0",
        ("--tile", 0): "tile is 0",
        ("--kind", "empirical", "--bias-var", 0.1): "are of infinite width",
        ("--against", tmp_path / "nothing.npy"): "There is no file",
    }.items():
        code, _, err = command(*job, *words)
        assert code == 2
        assert found in " ".join(err.split()), words
    assert not (tmp_path / "k").exists()
