"""Published files: the user's copy, the cache, the download."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farfield.data import PROTEIN, Source, load_diabetes, locate
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


def test_protein_is_the_published_file() -> None:
    assert len(PROTEIN.sha256) == 64
    assert PROTEIN.url.startswith("https://archive.ics.uci.edu/")


def test_diabetes_is_in_its_original_units() -> None:
    frame = load_diabetes()
    assert frame.shape == (442, 11)
    assert 18 <= frame["bmi"].min() < frame["bmi"].max() < 43
