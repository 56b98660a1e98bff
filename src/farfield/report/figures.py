"""Drawing a story's figures in one style, as PNG and SVG."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from farfield import files
from farfield.studies.shared.story import Figure

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.handlelength": 3.2,  # long enough to tell the line styles apart
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    # The same figure gives the same file.
    "svg.hashsalt": "farfield",
    # Text stays text, so that a browser draws it with fonts of its own, in any script.
    "svg.fonttype": "none",
    # Names may hold dollar signs, which are no formulas.
    "text.parse_math": False,
}
_PNG_DPI = 200


def save(figure: Figure, folder: Path) -> str:
    """Draw a figure and write ``NAME.png`` and ``NAME.svg``.

    Args:
        figure: What to draw.
        folder: Where to write.

    Returns:
        The SVG.

    Raises:
        OutputError: The files cannot be written.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Scripts that the font lacks show as boxes in the PNG, and right in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas = Canvas(figsize=figure.size, layout="constrained")
        FigureCanvasAgg(canvas)
        figure.draw(canvas)
        drawn: dict[str, bytes] = {}
        for kind in ("png", "svg"):
            content = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            canvas.savefig(content, format=kind, dpi=_PNG_DPI, metadata=metadata)
            drawn[kind] = content.getvalue()
    for kind, data in drawn.items():
        files.write_bytes(folder / f"{figure.name}.{kind}", data)
    return drawn["svg"].decode()
