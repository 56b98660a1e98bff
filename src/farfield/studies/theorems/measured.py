"""A table of numbers of many kinds: what was measured, in which case, how much."""

from __future__ import annotations

import math

import pandas as pd

COLUMNS = ["item", "case", "quantity", "x", "value"]


class Notes:
    """Collects numbers of one item.

    Args:
        item: The theorem.
    """

    def __init__(self, item: str) -> None:
        self._item = item
        self._rows: list[tuple[str, str, str, float, float]] = []

    def add(self, case: str, **values: float | int) -> None:
        """Note numbers.

        Args:
            case: What they belong to.
            values: Name and value.
        """
        for quantity, value in values.items():
            self._rows.append((self._item, case, quantity, math.nan, float(value)))

    def curve(self, case: str, x: list[float], values: list[float]) -> None:
        """Note a function's values.

        Args:
            case: What it belongs to.
            x: Where.
            values: The values there.
        """
        pairs = zip(x, values, strict=True)
        self._rows += [(self._item, case, "f", at, float(value)) for at, value in pairs]

    def frame(self) -> pd.DataFrame:
        """All that was noted, in the order of noting."""
        return pd.DataFrame(self._rows, columns=COLUMNS)


def by_case(frame: pd.DataFrame) -> pd.DataFrame:
    """An item's numbers with a row for each case and a column for each quantity.

    Args:
        frame: What was noted of the item.

    Returns:
        The table, in the order of noting; curves are left out.
    """
    own = frame[frame["x"].isna()]
    table = own.pivot(index="case", columns="quantity", values="value")
    return table.loc[own["case"].unique(), own["quantity"].unique()]
