"""Files are complete or absent."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from farfield import files
from farfield.errors import OutputError


def test_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_failure_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def fail() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"Cannot write .*file\.txt: No space left on device"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_limit_in_the_middle_of_writing(tmp_path: Path) -> None:
    """The system refuses the second megabyte: the old file stays, nothing else is left."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    script = (
        "import sys, pathlib\n"
        "from farfield import files, errors\n"
        "try:\n"
        "    files.write_bytes(pathlib.Path(sys.argv[1]), bytes(2**21))\n"
        "except errors.OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)),
    )
    assert "Cannot write" in done.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, os, signal\n"
        "from farfield import files\n"
        "with files.atomic(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "inner" / "file.txt"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert not path.exists()
    assert len(list(path.parent.iterdir())) == 1
    files.remove_unfinished(path.parent)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("place", ["file/inner", "file"])
def test_a_folder_that_cannot_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write to the folder"):
        files.make_folder(tmp_path / place)
