"""What a paper claims, what was found, and whether the two agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd


@dataclass(frozen=True)
class Claim:
    """One claim of a paper beside what was found.

    Attributes:
        item: The theorem, figure or table.
        claim: What it says, in a sentence.
        published: The published number or wording.
        ours: The number found.
        agrees: Whether the two agree.
        why: Why they agree, or why not.
    """

    item: str
    claim: str
    published: str
    ours: str
    agrees: bool
    why: str


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
            "agree": ["yes" if claim.agrees else "no" for claim in claims],
            "why": [claim.why for claim in claims],
        },
        index=pd.Index([claim.item for claim in claims], name="item"),
    )
