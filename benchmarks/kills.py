"""Kills a job at random moments, itself or one of its workers, and goes on until it is done.

``make kills``: 20 jobs that were really killed, while they start or at a random number of tiles;
each store must be that of a job that nobody killed, byte by byte, and a job that loses a worker
must come to its end by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_LONGEST = 600.0  # seconds after which a job hangs
_MODEL = """
import farfield as ff

def build():
    return ff.mlp(9, [64, 64, 64], 1, norm="layer")
"""


def command(folder: Path, store: Path, tile: int, workers: int | None) -> list[str]:
    """The job as a user would run it."""
    choice = [] if workers is None else ["--workers", str(workers)]
    return [
        *(sys.executable, "-m", "farfield", "kernel", str(folder / "rows.npy")),
        *("--model", f"{folder / 'my_model.py'}:build", "--store", str(store), "--resume"),
        *("--weight-var", "2", "--bias-var", "0.1", "--tile", str(tile), *choice),
    ]


def digest(store: Path) -> str:
    """Of all files of a store with their names."""
    whole = hashlib.sha256()
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        whole.update(f"{path.relative_to(store)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


def workers_of(pid: int) -> list[int]:
    """The worker processes of a job: those that multiprocessing has started for it."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [int(own) for own, above, what in rows if int(above) == pid and "spawn_main" in what]


def tiles_in(store: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(store / "c"))


def attempt(words: list[str], store: Path, tiles: int, early: float, of_worker: bool) -> str:
    """Run the job and kill it, or a worker of it, when so many tiles are there or soon after.

    Returns:
        What happened; nothing if the job was done before.
    """
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdout=told, stderr=told, start_new_session=True)
        if not tiles:  # while it starts
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.0, early))
        while process.poll() is None and tiles_in(store) < tiles:
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.05))
        there = tiles_in(store)
        victims = workers_of(process.pid) if of_worker else [process.pid]
        if process.poll() is not None or not victims:
            process.wait(_LONGEST)
            return ""
        if not of_worker:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_LONGEST)
            return f"the job killed at {there} tile files"
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(victims), signal.SIGKILL)
        process.wait(_LONGEST)
        if process.returncode:
            told.seek(0)
            print(told.read().decode(errors="replace")[-2000:])
        return f"a worker killed at {there} tile files, exit code {process.returncode}"


def run(words: list[str]) -> float:
    """Run a job to its end; the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "my_model.py").write_text(_MODEL)
        rows = np.random.default_rng(0).standard_normal((options.rows, 9))
        np.save(folder / "rows.npy", rows)
        usual = run(command(folder, folder / "whole", options.tile, None))
        expected, whole = digest(folder / "whole"), tiles_in(folder / "whole")
        print(f"without a kill: {usual:.1f} s, {whole} tile files", flush=True)
        right, number = 0, 0
        while number < options.kills:
            store = folder / "store"
            workers = 2 if number % 2 else None
            of_worker = number % 4 == 3
            words = command(folder, store, options.tile, workers)
            # One of four while it starts, the others while it writes; a worker is there later.
            tiles = random.randint(1, whole - 1) if of_worker or random.random() < 0.75 else 0
            story = attempt(words, store, tiles, usual, of_worker)
            if story:
                number += 1
                run(words)
                same = digest(store) == expected and not (
                    of_worker and not story.endswith("exit code 0")
                )
                right += same
                print(f"{number}: {story}; the same store: {same}", flush=True)
            shutil.rmtree(store, ignore_errors=True)
        print(f"{options.kills} kills, {right} correct stores")
    sys.exit(right != options.kills)


if __name__ == "__main__":
    main()
