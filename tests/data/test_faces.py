"""UTKFace's names, and features on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from farfield.data import features
from farfield.data.faces import find_faces, parse_name
from farfield.errors import DataError


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("25_0_2_20170116174525125.jpg.chip.jpg", (25, 0, "Asian")),
        ("116_1_4_20170112213001988.jpg", (116, 1, "Others")),
        ("1_1_0_20161219140623097.JPG", (1, 1, "White")),
        ("61_1_20170109150557335.jpg.chip.jpg", None),  # three such are in UTKFace
        ("24_0_1_.jpg.chip.jpg", None),
        ("55_0_0_20170116232725357jpg.chip.jpg", None),
        ("117_0_0_20170116232725357.jpg", None),
        ("25_2_0_20170116232725357.jpg", None),
        ("25_0_5_20170116232725357.jpg", None),
        ("-5_0_0_20170116232725357.jpg", None),
        ("25_0_0_20170116.jpg.png", None),
        ("٢٥_0_0_20170116.jpg", None),  # digits of other scripts
    ],
)
def test_names(name: str, found: tuple[int, int, str] | None) -> None:
    assert parse_name(name) == found


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "part" / "__MACOSX").mkdir(parents=True)
    for name, content in {
        "30_0_0_1.jpg": b"a",
        "part/30_0_0_1.jpg": b"a",  # the same image again
        "part/31_1_4_2.jpg.chip.jpg": b"b",
        "part/61_1_2.jpg": b"c",
        "part/__MACOSX/._30_0_0_1.jpg": b"d",
        "part/notes.txt": b"e",
    }.items():
        (tmp_path / name).write_bytes(content)
    faces = find_faces(tmp_path, tmp_path / "cache")
    assert list(faces.frame["age"]) == [30, 31]
    assert list(faces.frame["ethnicity"]) == ["White", "Others"]
    assert faces.malformed == ("61_1_2.jpg",)
    assert faces.repeated == 1
    assert faces.notes() == (
        "2 images: 1 White, 0 Black, 0 Asian, 0 Indian, 1 Others.",
        "Left out, because the name is not age_gender_race_date.jpg: 1 (61_1_2.jpg).",
        "Left out, because an earlier image has the same bytes: 1.",
    )


def test_folders_without_faces_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no .*nowhere"):
        find_faces(tmp_path / "nowhere", tmp_path)
    (tmp_path / "61_1_2.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 \.jpg files are named otherwise"):
        find_faces(tmp_path, tmp_path)


def test_features_are_computed_once_and_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(features, "PART", 4)
    keys = [f"image {i}" for i in range(10)]
    values = rng.normal(size=(10, 3)).astype(np.float32)
    asked: list[tuple[int, int]] = []

    def extract(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return values[first:last].astype(np.float64)

    with pytest.raises(KeyboardInterrupt):
        features.cached_features(keys, "backbone", extract, tmp_path)
    done: list[int] = []
    found = features.cached_features(keys, "backbone", extract, tmp_path, done.append)
    assert np.array_equal(found, values)
    assert asked == [(0, 4), (4, 8), (8, 10), (8, 10)]
    assert done == [4, 8, 10]
    features.cached_features(keys, "other backbone", extract, tmp_path)
    features.cached_features([*keys[:-1], "other image"], "backbone", extract, tmp_path)
    assert len(asked) == 4 + 3 + 3  # nothing kept answered for other images or another backbone
    assert not list(tmp_path.rglob(".unfinished*"))


@pytest.mark.parametrize("content", [b"", b"no features", None])
def test_damaged_features_are_told(tmp_path: Path, content: bytes | None) -> None:
    def extract(first: int, last: int) -> np.ndarray:
        return np.zeros((last - first, 2))

    features.cached_features(["a", "b"], "backbone", extract, tmp_path)
    (part,) = tmp_path.rglob("*.npy")
    if content is None:
        np.save(part, np.zeros((3, 2), np.float32))
    else:
        part.write_bytes(content)
    with pytest.raises(DataError, match="delete"):
        features.cached_features(["a", "b"], "backbone", extract, tmp_path)
