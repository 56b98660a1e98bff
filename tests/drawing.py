"""Figures of a study as objects: drawn, but not rendered."""

from __future__ import annotations

from matplotlib.figure import Figure as Canvas

from farfield.studies.shared.story import Story


def drawn(story: Story, name: str) -> Canvas:
    """The figure of a name."""
    (figure,) = (one for one in story.figures if one.name == name)
    canvas = Canvas(figsize=figure.size, layout="constrained")
    figure.draw(canvas)
    return canvas


def entries(canvas: Canvas) -> list[str]:
    """The entries of the legend; there is one, that of the whole figure."""
    (legend,) = canvas.legends
    return [text.get_text() for text in legend.get_texts()]
