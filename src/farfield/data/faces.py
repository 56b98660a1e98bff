"""UTKFace from the user's own copy: age, gender and ethnicity are in the files' names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from farfield.data.archives import unpack
from farfield.errors import DataError

ETHNICITIES = ("White", "Black", "Asian", "Indian", "Others")
"""The ethnicities by the number that stands for them in the names."""

_NAME = re.compile(
    r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_(?P<date>\d+)\.jpe?g(\.chip\.jpg)?",
    re.IGNORECASE | re.ASCII,
)
_OLDEST = 116
_ENDINGS = {".jpg", ".jpeg"}


@dataclass(frozen=True)
class Faces:
    """A folder of faces.

    Attributes:
        frame: A row for each image: path, sha256, age (years), gender (0 or 1), ethnicity.
        malformed: Names of images that are not ``age_gender_race_date.jpg``; they are left out.
        repeated: Number of images that were left out because an earlier one has the same bytes.
    """

    frame: pd.DataFrame
    malformed: tuple[str, ...]
    repeated: int

    def notes(self) -> tuple[str, ...]:
        """What was found and left out, in words."""
        counts = self.frame["ethnicity"].value_counts()
        present = (f"{counts.get(name, 0)} {name}" for name in ETHNICITIES)
        notes = [f"{len(self.frame)} images: {', '.join(present)}."]
        if self.malformed:
            shown = ", ".join(self.malformed[:5]) + (", ..." if len(self.malformed) > 5 else "")
            notes.append(
                f"Left out, because the name is not age_gender_race_date.jpg: "
                f"{len(self.malformed)} ({shown})."
            )
        if self.repeated:
            notes.append(f"Left out, because an earlier image has the same bytes: {self.repeated}.")
        return tuple(notes)


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Age, gender and ethnicity of an image.

    Args:
        name: Its file name, ``age_gender_race_date.jpg`` or the same with ``.chip.jpg`` behind
            it, as the cropped images have.

    Returns:
        Age in years, gender (0 male, 1 female) and ethnicity; ``None`` for a malformed name.

    Example:
        >>> parse_name("25_0_2_20170116174525125.jpg.chip.jpg")
        (25, 0, 'Asian')
        >>> parse_name("61_1_20170109150557335.jpg.chip.jpg")  # no ethnicity
    """
    found = _NAME.fullmatch(name)
    if found is None or int(found["age"]) > _OLDEST:
        return None
    return int(found["age"]), int(found["gender"]), ETHNICITIES[int(found["race"])]


def find_faces(data: Path | str, cache: Path) -> Faces:
    """The faces in a folder and those below it, or in an archive.

    Args:
        data: The user's folder, or a zip or tar archive of it.
        cache: Where an archive is unpacked.

    Returns:
        The images in the order of their names, and what was left out.

    Raises:
        DataError: There is no such folder or archive, or nothing usable in it.
        OutputError: The archive cannot be unpacked there.
    """
    data = Path(data)
    if not data.exists():
        raise DataError(
            f"There is no {data}; give the folder of UTKFace, or its archive (zip, tar.gz). Its "
            "licence does not allow to ship it: get it from susanqq.github.io/UTKFace."
        )
    folder = data if data.is_dir() else unpack(data, cache)
    rows, malformed, seen = [], [], set()
    paths = (p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
    for path in sorted(paths, key=lambda p: (p.name, str(p))):
        if path.name.startswith("."):  # what macOS adds to archives
            continue
        parsed = parse_name(path.name)
        if parsed is None:
            malformed.append(path.name)
            continue
        digest = _digest(path)
        rows.append((path, digest, *parsed, digest in seen))
        seen.add(digest)
    frame = pd.DataFrame(rows, columns=["path", "sha256", "age", "gender", "ethnicity", "again"])
    if frame.empty:
        raise DataError(
            f"{data} has no image named age_gender_race_date.jpg ({len(malformed)} .jpg files are "
            "named otherwise); give the folder of UTKFace, or its archive."
        )
    again = frame.pop("again").to_numpy(dtype=bool)
    return Faces(frame[~again].reset_index(drop=True), tuple(malformed), int(np.sum(again)))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
