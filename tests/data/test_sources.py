"""Published files: the user's copy, the cache, the download."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farfield.data import ABALONE, PROTEIN, Source, load_abalone, load_diabetes, locate, sources
from farfield.errors import DataError

CONTENT = b"a,y\n1,2\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source whose cache is empty and whose address answers nothing."""
    monkeypatch.delenv("FARFIELD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Source(
        name="small.csv",
        url="http://127.0.0.1:9/small.csv",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        other_names=("OTHER.csv",),
        citation="nobody",
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An address of this machine that serves the file."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "small.csv").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **keywords: object) -> None:
            super().__init__(*arguments, directory=str(folder), **keywords)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/small.csv"
        running.shutdown()


@pytest.mark.parametrize("name", ["small.csv", "OTHER.csv"])
def test_the_users_folder(source: Source, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTENT)
    assert locate(source, tmp_path) == tmp_path / name


def test_the_variable(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.csv").write_bytes(CONTENT)
    monkeypatch.setenv("FARFIELD_DATA", str(tmp_path))
    assert locate(source) == tmp_path / "small.csv"


def test_a_wrong_copy(source: Source, tmp_path: Path) -> None:
    (tmp_path / "small.csv").write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DataError, match=f"its sha256 is {found}, expected {source.sha256}"):
        locate(source, tmp_path)


def test_a_folder_without_it(source: Source, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no small\.csv or OTHER\.csv; get it from http"):
        locate(source, tmp_path)
    with pytest.raises(DataError, match=r"is not a folder; --data and FARFIELD_DATA name"):
        locate(source, tmp_path / "nowhere")


def test_offline_names_file_address_and_option(source: Source) -> None:
    with pytest.raises(DataError, match=r"small\.csv is not in .*http://127.*--data DIR"):
        locate(source)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_download_once(source: Source, server: str) -> None:
    path = locate(replace(source, url=server))
    assert path.read_bytes() == CONTENT
    assert locate(source) == path  # from the cache, though the address is dead


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_download_of_something_else(source: Source, server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "small.csv").write_bytes(b"an error page")
    with pytest.raises(DataError, match=r"is not the published small\.csv"):
        locate(replace(source, url=server))


@pytest.mark.parametrize("published", [PROTEIN, ABALONE], ids=lambda own: own.name)
def test_published_files_have_a_checksum_and_an_address(published: Source) -> None:
    assert len(published.sha256) == 64
    assert published.url.startswith("https://archive.ics.uci.edu/")
    assert "CC BY 4.0" in published.citation


@pytest.mark.parametrize("name", ["abalone.csv", "abalone.data"])
def test_abalone_gets_the_names_that_its_file_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = b"M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15\nI,0.3,0.2,0.1,0.2,0.1,0.04,0.05,7\n"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="is not the published file"):
        load_abalone(tmp_path)
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(sources, "ABALONE", replace(ABALONE, sha256=checksum))
    frame = load_abalone(tmp_path)
    assert frame["sex"].tolist() == ["M", "I"]
    assert frame["rings"].tolist() == [15, 7]
    assert frame["shell_weight"].tolist() == [0.15, 0.05]


def test_the_published_abalone_file() -> None:
    folder = Path(os.environ.get("FARFIELD_DATA", "/nowhere"))
    if not (folder / "abalone.csv").exists():
        pytest.skip("needs the published file in the folder that FARFIELD_DATA names")
    frame = load_abalone(folder)
    assert frame.shape == (4177, 9)
    # As the publisher's description of the file counts them.
    assert frame["sex"].value_counts().to_dict() == {"M": 1528, "I": 1342, "F": 1307}
    assert (frame["rings"].min(), frame["rings"].max()) == (1, 29)


def test_diabetes_is_in_its_original_units() -> None:
    frame = load_diabetes()
    assert frame.shape == (442, 11)
    assert 18 <= frame["bmi"].min() < frame["bmi"].max() < 43
