"""Kills a job at random moments, itself or one of its workers, and goes on until it is done.

``make kills``: 20 jobs; each store must be that of a job that nobody killed, byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_MODEL = """
import farfield as ff

def build():
    return ff.mlp(9, [64, 64, 64], 1, norm="layer")
"""


def command(folder: Path, store: Path, workers: int | None) -> list[str]:
    """The job as a user would run it."""
    choice = [] if workers is None else ["--workers", str(workers)]
    return [
        *(sys.executable, "-m", "farfield", "kernel", str(folder / "rows.npy")),
        *("--model", f"{folder / 'my_model.py'}:build", "--store", str(store), "--resume"),
        *("--weight-var", "2", "--bias-var", "0.1", "--tile", "256", *choice),
    ]


def digest(store: Path) -> str:
    """Of all files of a store with their names."""
    whole = hashlib.sha256()
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        whole.update(f"{path.relative_to(store)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, with theirs."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [line.split() for line in listed.splitlines()]
    found = [int(child) for child, parent in pairs if int(parent) == pid]
    return found + [below for child in found for below in descendants(child)]


def attempt(words: list[str], wait: float, of_worker: bool) -> str:
    """Run the job and kill it, or a worker of it, after some seconds; what happened."""
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdout=told, stderr=told, start_new_session=True)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            below = descendants(process.pid)
            if of_worker and below:
                os.kill(random.choice(below), signal.SIGKILL)
                process.wait()
                return f"a worker killed, exit code {process.returncode}"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "the job killed"
    return f"done before the kill, exit code {process.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my_model.py").write_text(_MODEL)
        make = (
            f"import numpy; numpy.save({str(folder / 'rows.npy')!r}, "
            f"numpy.random.default_rng(0).standard_normal(({options.rows}, 9)))"
        )
        subprocess.run([sys.executable, "-c", make], check=True)
        start = time.perf_counter()
        subprocess.run(command(folder, folder / "whole", None), check=True, capture_output=True)
        usual = time.perf_counter() - start
        expected = digest(folder / "whole")
        print(f"without a kill: {usual:.1f} s", flush=True)
        right = 0
        for number in range(options.kills):
            store = folder / f"store{number}"
            workers = 2 if number % 2 else None
            words = command(folder, store, workers)
            wait = random.uniform(0.2, 1.0) * usual * (2.0 if workers else 1.0)
            story = attempt(words, wait, of_worker=number % 4 == 3)
            subprocess.run(words, check=True, capture_output=True)
            same = digest(store) == expected
            right += same
            print(f"{number + 1}: {story} after {wait:.1f} s; the same store: {same}", flush=True)
        print(f"{options.kills} kills, {right} correct stores")
    sys.exit(right != options.kills)


if __name__ == "__main__":
    main()
