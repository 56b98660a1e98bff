"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from farfield.errors import OutputError

_UNFINISHED = ".unfinished-"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and move it to ``path`` once it is written.

    A kill leaves the old file or none, never half of the new one; :func:`remove_unfinished`
    clears what a kill left behind.

    Args:
        path: Where the file shall be; its folder must exist.

    Yields:
        A path in the same folder, with the same suffix, to write to.

    Raises:
        OutputError: The file cannot be written, for example because the disk is full.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=_UNFINISHED, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another "
            "folder; what was written before is complete."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is complete or absent, also after a kill or on a full disk.

    Args:
        path: Where the file shall be.
        content: What it shall hold.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write text as UTF-8; see :func:`write_bytes`.

    Args:
        path: Where the file shall be.
        content: What it shall hold.

    Raises:
        OutputError: The file cannot be written.
    """
    write_bytes(path, content.encode())


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that a killed run left in a folder, not in those below it.

    Args:
        folder: The folder; nothing happens if it does not exist.
    """
    for leftover in folder.glob(f"{_UNFINISHED}*"):
        leftover.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and see that files can be written there.

    Args:
        folder: The folder; its parents are made too.

    Raises:
        OutputError: It cannot be made or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write to the folder {folder}: {error.strerror or error}. Choose another one."
        ) from error


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
