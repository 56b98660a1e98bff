"""What claims come to in a sentence."""

from __future__ import annotations

import pytest

from farfield.studies.shared.claims import NOT_RUN, Claim, counted


def of(verdicts: str) -> list[Claim]:
    """A claim for each letter: yes, no, open."""
    met = {"y": True, "n": False, "o": None}
    return [Claim(f"{v}{k}", "", "", "", met[v], "") for k, v in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ("yy", "2 of 2 claims agree."),
        ("yno", "1 of 3 claims agree; not: n1. Open: o2."),
        ("nnnnn", "0 of 5 claims agree; not: n0; n1; n2; n3; n4."),
        ("ynnnnnn", "1 of 7 claims agree; not: 6, in the table of claims."),
        ("yooooooo", "1 of 8 claims agree. Open: 7, in the table of claims."),
        ("", "Nothing was run."),
    ],
)
def test_few_items_are_named_and_many_are_counted(verdicts: str, sentence: str) -> None:
    assert counted(of(verdicts)) == sentence


def test_what_has_not_run_counts_for_nothing() -> None:
    idle = Claim("a", "", "", NOT_RUN, None, "")
    assert idle.verdict == NOT_RUN
    assert counted([idle]) == "Nothing was run."
    assert counted([*of("y"), idle]) == "1 of 1 claims agree. Not run: 1."
