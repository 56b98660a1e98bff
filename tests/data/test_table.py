"""Reading CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from farfield.data import read_table
from farfield.errors import DataError


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", "])
def test_separators(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"a{separator}b\n1{separator}x\n2{separator}y\n")
    frame = read_table(path)
    assert list(frame.columns) == ["a", "b"]
    assert frame["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize("name", ["t.parquet", "t.pq"])
def test_parquet(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_parquet(tmp_path / name)
    assert read_table(tmp_path / name).equals(frame)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8-sig")
    assert list(read_table(path).columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"\xff\xfe\x00garbage\x81", "cannot be read as CSV: it is not UTF-8"),
        (b"a,b\n1,2\n1,2,3\n", "cannot be read as CSV"),
        (b"a,b\n1,2,3\n4,5,6\n", "more fields than its header"),
        (b"a,b\n0,2,3\n1,5,6\n2,5,6\n", "more fields than its header"),
        (b"5,5,1\n1,2,3\n", "add a header line"),
        (b"a,a\n1,2\n", "more than one column 'a'"),
    ],
)
def test_unreadable_csv(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_unreadable_parquet_missing_file_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_table(path)
    with pytest.raises(DataError, match="There is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is not a file"):
        read_table(tmp_path)
