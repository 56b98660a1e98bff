"""What a study tells its reader: question, answer, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


SUMMARY = "summary"


@dataclass(frozen=True)
class Table:
    """A table to read.

    Attributes:
        caption: What it shows.
        frame: Its cells, as they shall be printed; the index names the rows.
        prose: Whether its cells are sentences, which may be broken into lines.
        links: Where each row's name leads, by its number; addresses relative to the page.
        item: The item of the paper that it belongs to, for studies of several: empty for what
            belongs to all of them, :data:`SUMMARY` for what sums them up.
    """

    caption: str
    frame: pd.DataFrame
    prose: bool = False
    links: Mapping[int, str] = field(default_factory=dict)
    item: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure, drawn when the report is written.

    Attributes:
        name: File name without ending.
        caption: What it shows, with units and the meaning of bands.
        draw: Draws on an empty matplotlib figure, in the style of the report.
        size: Width and height in inches.
        item: As of :class:`Table`.
    """

    name: str
    caption: str
    draw: Callable[[Canvas], None]
    size: tuple[float, float] = (7.2, 4.0)
    item: str = ""


@dataclass(frozen=True)
class Story:
    """A study's report, before it has a form.

    Attributes:
        title: The study.
        question: What it asks.
        answer: The answer, in a sentence or two, from the numbers measured.
        tables: Tables in the order of reading.
        figures: Figures in the order of reading.
        remarks: What was found in the data, such as dropped rows, and in what the settings are
            not the paper's.
        notes: How it was done.
        source: The paper and the data, for citing.
        rerun: The command that gives these results.
        parent: Address of the page that leads to this one, relative to it, if there is one.
    """

    title: str
    question: str
    answer: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]
    source: str
    rerun: str
    parent: str = ""


@runtime_checkable
class Result(Protocol):
    """What every study returns."""

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each network and thing measured."""
        ...

    @property
    def predictions(self) -> pd.DataFrame:
        """A row for each prediction."""
        ...

    @property
    def record(self) -> Mapping[str, object]:
        """Every setting, the versions and the machine, as in ``settings.json``."""
        ...

    def story(self) -> Story:
        """The report's content."""
        ...
