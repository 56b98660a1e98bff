"""Unpacking a user's archive of images: nothing outside the target, no links, no bombs."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from farfield import files
from farfield.errors import DataError, OutputError


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        size: Bytes of all its files together, unpacked.
        count: Number of its entries.
    """

    size: int = 8 * 2**30
    count: int = 200_000


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> Path:
    """Unpack a zip or tar archive (also compressed) once, and give the folder with its files.

    The folder is named after the archive's checksum and is complete or absent; a later call with
    the same archive finds it there. An archive with an entry that would not stay in the folder, or
    that is neither a file nor a folder, is refused as a whole.

    Args:
        archive: The archive.
        folder: Where the folder is made.
        limits: How much it may hold.

    Returns:
        The folder.

    Raises:
        DataError: The archive cannot be read, or holds something it may not.
        OutputError: The folder cannot be written to.
    """
    limits = limits if limits is not None else Limits()
    try:
        with archive.open("rb") as opened:
            target = folder / hashlib.file_digest(opened, "sha256").hexdigest()[:32]
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror or error}.") from error
    if target.is_dir():
        return target
    files.make_folder(folder)
    for left_behind in folder.glob(".unpacking-*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        _write_all(archive, temporary, limits)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


# What the libraries raise on archives that are damaged, encrypted or compressed by other means.
_UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, NotImplementedError, ValueError),
)


def _write_all(archive: Path, target: Path, limits: Limits) -> None:
    size, seen = 0, set()
    try:
        with contextlib.closing(_entries(archive)) as entries:
            for count, entry in enumerate(entries, 1):
                size += entry.size
                if count > limits.count or size > limits.size:
                    raise DataError(
                        f"{archive} unpacks to more than {limits.count:,} entries or "
                        f"{limits.size:,} bytes; unpack it yourself and give the folder."
                    )
                path = _inside(archive, entry.name)
                if entry.read is None:
                    continue
                if str(path).casefold() in seen:
                    raise DataError(f"{archive} holds {entry.name!r} twice.")
                seen.add(str(path).casefold())
                _write(entry.read, target / path, entry.size)
    except _UNREADABLE as error:
        if isinstance(error, (DataError, OutputError)):
            raise
        told = " ".join(str(error).split())  # tarfile's has a line for each method it tried
        raise DataError(
            f"{archive} cannot be read as a zip or tar archive ({type(error).__name__}: {told}); "
            "unpack it yourself and give the folder."
        ) from error


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    read: Callable[[int], bytes] | None  # nothing for a folder


def _entries(archive: Path) -> Generator[_Entry, None, None]:
    if zipfile.is_zipfile(archive):
        return _zip_entries(archive)
    return _tar_entries(archive)


def _zip_entries(archive: Path) -> Generator[_Entry, None, None]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, info.filename, "a link or a device")
            if info.is_dir():
                yield _Entry(info.filename, 0, None)
                continue
            with opened.open(info) as content:
                yield _Entry(info.filename, info.file_size, content.read)


def _tar_entries(archive: Path) -> Generator[_Entry, None, None]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if not (member.isreg() or member.isdir()):
                raise _refused(archive, member.name, "a link or a device")
            try:
                tarfile.data_filter(member, str(archive.parent.resolve()))
            except tarfile.FilterError as error:
                raise _refused(archive, member.name, "a path outside the archive") from error
            content = opened.extractfile(member)
            yield _Entry(member.name, member.size, None if content is None else content.read)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The path of an entry within the target."""
    path = PurePosixPath(name)
    strange = "\\" in name or "\0" in name or ":" in (path.parts or ("",))[0]
    if path.is_absolute() or ".." in path.parts or strange:
        raise _refused(archive, name, "a path outside the archive")
    return path


def _refused(archive: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{archive} holds {name!r}, which is {what}; it is not unpacked. Get the archive from its "
        "publisher, or unpack it yourself and give the folder."
    )


def _write(read: Callable[[int], bytes], path: Path, size: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as written:
            left = size
            while block := read(min(left, 2**20)):
                written.write(block)
                left -= len(block)
    except FileExistsError as error:
        raise DataError(f"The archive holds {path.name!r} as a file and as a folder.") from error
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Free some space, or unpack the "
            "archive yourself and give the folder."
        ) from error
