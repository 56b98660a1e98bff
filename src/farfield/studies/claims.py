"""What a paper claims, what was found, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from farfield.studies.story import SUMMARY, Table

AGREES = {True: "yes", False: "no", None: "not run"}


@dataclass(frozen=True)
class Claim:
    """One claim of a paper beside what was found.

    Attributes:
        item: The theorem, figure or table, and after a comma what of it.
        claim: What it says, in a sentence.
        published: The published number or wording.
        ours: The number found.
        agrees: Whether the two agree; ``None`` if nothing was run.
        why: Why they agree, or why not.
    """

    item: str
    claim: str
    published: str
    ours: str
    agrees: bool | None
    why: str

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
            "agree": [AGREES[claim.agrees] for claim in claims],
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
    """How many agree, and which do not.

    Args:
        claims: The claims.

    Returns:
        A sentence.
    """
    run = [claim for claim in claims if claim.agrees is not None]
    against = ", ".join(claim.item for claim in run if not claim.agrees)
    agree = sum(bool(claim.agrees) for claim in run)
    left = len(claims) - len(run)
    return (
        (f"{agree} of {len(run)} claims agree" if run else "Nothing was run")
        + (f"; not: {against}." if against else ".")
        + (f" Not run: {left}." if left and run else "")
    )
