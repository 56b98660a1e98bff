"""A progress bar with the remaining time, for long work on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Steps:
    """Counts the steps of a study's stages and shows them, if wanted, on standard error.

    Args:
        total: Steps of all stages together.
        show: Whether to show the bar.
    """

    def __init__(self, total: int, show: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("remaining"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not show,
            speed_estimate_period=120.0,
        )
        self._task = self._progress.add_task("starting", total=total)
        self._before = 0

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def stage(self, label: str, steps: int) -> Callable[[int], None]:
        """Begin a stage.

        Args:
            label: What is being done.
            steps: Its number of steps.

        Returns:
            A function to call with the number of steps of this stage that are done.
        """
        before = self._before
        self._before += steps
        self._progress.update(self._task, description=label, completed=before)

        def done(count: int) -> None:
            self._progress.update(self._task, completed=before + count)

        return done
