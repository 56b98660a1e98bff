"""What a paper claims, what was found, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from farfield.studies.shared.story import SUMMARY, Table

NOT_RUN = "not run"
_MOST_LISTED = 5


@dataclass(frozen=True)
class Claim:
    """One claim of a paper beside what was found.

    Attributes:
        item: The theorem, figure or table, and after a comma what of it.
        claim: What it says, in a sentence.
        published: The published number or wording.
        ours: The number found.
        agrees: Whether the two agree; ``None`` if that cannot be told.
        why: Why they agree, or why not.
    """

    item: str
    claim: str
    published: str
    ours: str
    agrees: bool | None
    why: str

    @property
    def verdict(self) -> str:
        """Yes, no, open, or not run."""
        if self.ours == NOT_RUN:
            return NOT_RUN
        return {True: "yes", False: "no", None: "open"}[self.agrees]

    @property
    def of(self) -> str:
        """The theorem, figure or table alone."""
        return self.item.split(",")[0]


@runtime_checkable
class Claiming(Protocol):
    """A result that compares itself with a paper."""

    def claims(self) -> tuple[Claim, ...]:
        """The claims in the order of the paper."""
        ...


def claims_frame(claims: Sequence[Claim]) -> pd.DataFrame:
    """Claims as a table to read.

    Args:
        claims: The claims.

    Returns:
        A row for each, named by its item: claim, published, ours, agree, why.
    """
    return pd.DataFrame(
        {
            "claim": [claim.claim for claim in claims],
            "published": [claim.published for claim in claims],
            "ours": [claim.ours for claim in claims],
            "agree": [claim.verdict for claim in claims],
            "why": [claim.why for claim in claims],
        },
        index=pd.Index([claim.item for claim in claims], name="item"),
    )


def claims_table(
    claims: Sequence[Claim], caption: str, links: Mapping[int, str] | None = None
) -> Table:
    """Claims as a table of a report.

    Args:
        claims: The claims.
        caption: What it shows.
        links: Where each row's name leads, by its number.

    Returns:
        The table.
    """
    return Table(caption, claims_frame(claims), prose=True, links=links or {}, item=SUMMARY)


def counted(claims: Sequence[Claim]) -> str:
    """How many agree, which do not, and what is left open.

    Args:
        claims: The claims.

    Returns:
        A sentence.
    """
    found = {
        verdict: [claim.item for claim in claims if claim.verdict == verdict]
        for verdict in ("yes", "no", "open", NOT_RUN)
    }
    run = len(claims) - len(found[NOT_RUN])
    said = f"{len(found['yes'])} of {run} claims agree" if run else "Nothing was run"
    said += f"; not: {_listed(found['no'])}." if found["no"] else "."
    if found["open"]:
        said += f" Open: {_listed(found['open'])}."
    if found[NOT_RUN] and run:
        said += f" Not run: {len(found[NOT_RUN])}."
    return said


def _listed(items: Sequence[str]) -> str:
    """The items, or how many where that would not be read."""
    few = len(items) <= _MOST_LISTED
    return "; ".join(items) if few else f"{len(items)}, in the table of claims"
