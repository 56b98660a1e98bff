"""Results for readers: figures as PNG and SVG, and one self-contained page."""

from farfield.report.write import write_page, write_report

__all__ = ["write_page", "write_report"]
