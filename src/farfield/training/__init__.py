"""Many networks at once: a fleet of one architecture trains in a single batched loop."""

from farfield.training.checkpoint import Checkpoint
from farfield.training.fleet import Fleet
from farfield.training.loop import TrainingLog, TrainingSettings, batch_rows, train

__all__ = ["Checkpoint", "Fleet", "TrainingLog", "TrainingSettings", "batch_rows", "train"]
