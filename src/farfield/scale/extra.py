"""Libraries that only large jobs need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from farfield.errors import MissingExtraError


@contextlib.contextmanager
def needs(library: str) -> Iterator[None]:
    """Say which extra to install, where an import in this block fails.

    Args:
        library: What is imported.

    Yields:
        Nothing.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"Kernels larger than memory need the library {library}; install it with "
            "pip install 'farfield[scale]'."
        ) from error
