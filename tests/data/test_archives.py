"""Unpacking archives that mean well, and those that do not."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from farfield.data.archives import Limits, unpack
from farfield.errors import DataError


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


FILES = {"a/b.jpg": b"one", "c.jpg": b"", "a/d/e.jpg": b"three" * 1000}


def test_zip_and_tar_give_their_files_once(tmp_path: Path) -> None:
    archives = (
        zipped(tmp_path / "faces.zip", {"a/": b"", **FILES}),
        tarred(tmp_path / "faces.tar.gz", *((tarfile.TarInfo(n), c) for n, c in FILES.items())),
    )
    for archive in archives:
        folder = unpack(archive, tmp_path / "cache")
        assert contents(folder) == FILES
        (folder / "mark").write_text("found again")
        assert unpack(archive, tmp_path / "cache") == folder
        assert (folder / "mark").exists()


@pytest.mark.parametrize("name", ["../out.jpg", "/out.jpg", "a/../../out.jpg", "a\\out.jpg"])
def test_paths_outside_are_refused(tmp_path: Path, name: str) -> None:
    zipped(tmp_path / "z.zip", {"fine.jpg": b"x", name: b"x"})
    tarred(
        tmp_path / "t.tar.gz", (tarfile.TarInfo("fine.jpg"), b"x"), (tarfile.TarInfo(name), b"x")
    )
    for archive in ("z.zip", "t.tar.gz"):
        with pytest.raises(DataError, match="a path outside the archive"):
            unpack(tmp_path / archive, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("link.jpg")
    member.type, member.linkname = kind, "/etc/hostname"
    tarred(tmp_path / "t.tar.gz", (member, b""))
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(info, "/etc/hostname")
    for name in ("z.zip", "t.tar.gz"):
        with pytest.raises(DataError, match="a link or a device"):
            unpack(tmp_path / name, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_too_much_is_refused(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "z.zip", {"zeros.jpg": bytes(2_000_000)})
    many = tarred(tmp_path / "t.tar.gz", *((tarfile.TarInfo(f"{i}.jpg"), b"") for i in range(11)))
    with pytest.raises(DataError, match="more than"):
        unpack(bomb, tmp_path / "cache", Limits(size=1_999_999))
    with pytest.raises(DataError, match="more than 10 entries"):
        unpack(many, tmp_path / "cache", Limits(count=10))
    assert not list((tmp_path / "cache").iterdir())
    assert contents(unpack(bomb, tmp_path / "cache", Limits(size=2_000_000)))


def test_a_size_that_lies_writes_no_more_than_it_says(tmp_path: Path) -> None:
    content = zipped(tmp_path / "z.zip", {"a.jpg": bytes(100_000)}).read_bytes()
    said = (100_000).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(content.replace(said, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="cannot be read as a zip or tar archive"):
        unpack(tmp_path / "lie.zip", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04broken"])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.zip").write_bytes(content)
    with pytest.raises(
        DataError, match=r"cannot be read as a zip or tar archive .+give the folder"
    ):
        unpack(tmp_path / "faces.zip", tmp_path / "cache")


def test_damage_and_names_that_occur_twice_are_told(tmp_path: Path) -> None:
    tarred(tmp_path / "t.tar.gz", (tarfile.TarInfo("a.jpg"), b"x" * 10**5))
    whole = (tmp_path / "t.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as a zip or tar archive"):
        unpack(tmp_path / "cut.tar.gz", tmp_path / "cache")
    twice = zipped(tmp_path / "z.zip", {"a.jpg": b"1", "A.jpg": b"2"})
    with pytest.raises(DataError, match=r"'A\.jpg' twice"):
        unpack(twice, tmp_path / "cache")
