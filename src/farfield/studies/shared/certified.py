"""A table of certificates: what is proven of trained networks beside what a search finds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from farfield.growth import Certificate
from farfield.studies.shared.story import Table


def certificates_table(
    caption: str,
    certificates: Mapping[str, Certificate],
    labels: Mapping[str, str],
    further: Mapping[str, list[str]] | None = None,
    rows: str = "network",
) -> Table:
    """Verdict, bound or degree, and the largest output found, of each network.

    Args:
        caption: What the table shows.
        certificates: By key.
        labels: Label of each key, in order.
        further: More columns.
        rows: What a row is.

    Returns:
        The table.
    """
    columns: dict[str, list[str]] = {"verdict": [], "proven": [], "largest found": []}
    for key in labels:
        cert = certificates[key]
        columns["verdict"].append(cert.verdict)
        columns["proven"].append(
            f"|output| at most {cert.bound.largest:.3g}"
            if cert.bounded
            else f"no faster than |x|^{cert.growth.degree:.3g}"
        )
        columns["largest found"].append(
            f"{cert.worst_found.value:.3g}"
            if cert.growth.slope is None
            else f"{abs(cert.growth.slope):.3g} |x| on a ray"
        )
    columns |= further or {}
    return Table(caption, pd.DataFrame(columns, index=pd.Index(labels.values(), name=rows)))
