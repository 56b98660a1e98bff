"""`farfield list`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from farfield.studies.catalogue import CATALOGUE


def list_studies() -> None:
    """List the published experiments that `farfield reproduce` reruns."""
    table = Table("study", "shows", "reproduces", box=None, pad_edge=False)
    for entry in CATALOGUE:
        table.add_row(entry.name, entry.shows, entry.paper)
    Console().print(table)
