"""A page for each item of the paper: its claims in full, and what of its study belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from farfield.studies.shared.claims import Claim, claims_frame, claims_table, counted
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.story import Result as StudyResult
from farfield.studies.shared.workspace import REPORT


@dataclass(frozen=True)
class Page:
    """A theorem, a figure or a table of the paper, as a result to report.

    Attributes:
        item: Its name.
        claims: What the paper says of it, beside what was found.
        result: The study it was found by.
        alone: Whether the study is about nothing else.
    """

    item: str
    claims: tuple[Claim, ...]
    result: StudyResult
    alone: bool

    @property
    def folder(self) -> str:
        """Where the page goes, in the folder of all."""
        return "-".join(re.findall(r"[a-z0-9]+", self.item.lower()))

    @property
    def address(self) -> str:
        """The page, seen from the table that leads to it."""
        return f"{self.folder}/{REPORT}"

    @property
    def metrics(self) -> pd.DataFrame:
        """The claims."""
        return claims_frame(self.claims).reset_index()

    @property
    def predictions(self) -> pd.DataFrame:
        """Those of the study."""
        return self.result.predictions

    @property
    def record(self) -> Mapping[str, object]:
        """That of the study."""
        return self.result.record

    def story(self) -> Story:
        """The report's content."""
        whole = self.result.story()
        first = self.claims[0]
        answer = whole.answer if self.alone else f"Found: {first.ours}."
        tables = [part for part in whole.tables if self._has(part)]
        figures = [part for part in whole.figures if self._has(part)]
        return replace(
            whole,
            title=f"{self.item}: {whole.title[0].lower()}{whole.title[1:]}",
            question=whole.question if self.alone else first.claim,
            answer=f"{counted(self.claims)} {answer}",
            tables=(claims_table(self.claims, "Published and found."), *tables),
            figures=tuple(figures),
            parent=f"../{REPORT}",
        )

    def _has(self, part: Table | Figure) -> bool:
        return part.item in ("", self.item)


def pages(
    studies: Mapping[str, StudyResult], claims: Mapping[str, tuple[Claim, ...]]
) -> dict[str, Page]:
    """The pages of all items that were run.

    Args:
        studies: Results by study.
        claims: Claims by study.

    Returns:
        Pages by item, in the order of the claims.
    """
    found: dict[str, Page] = {}
    for name, result in studies.items():
        own = claims[name]
        items = dict.fromkeys(claim.of for claim in own)
        for item in items:
            about = tuple(claim for claim in own if claim.of == item)
            found[item] = Page(item, about, result, len(items) == 1)
    return found
