"""Typed errors and warnings: each says what was found, what is allowed and what to do.

Every error that a user can cause derives from :class:`FarfieldError`, which is a
``ValueError``; the command line prints its message and ends with exit code 2.
"""


class FarfieldError(ValueError):
    """Base of every error that farfield raises about its input or surroundings."""


class SettingsError(FarfieldError):
    """A setting has a value that is not allowed, or settings contradict each other."""


class DataError(FarfieldError):
    """A data file is missing, damaged, or holds something that cannot be used."""


class OutputError(FarfieldError):
    """Results cannot be written, or would overwrite those of another run."""


class MissingExtraError(FarfieldError):
    """An optional library is needed that is not installed."""


class TrainingError(FarfieldError):
    """Training produced a value that is not finite."""


class UnsupportedOperation(FarfieldError):  # noqa: N818 - the public name says what was met
    """A model does something that a reading has no exact rule for."""


class RangeError(FarfieldError):
    """Numbers grow beyond the range of their dtype."""


class SingularKernelError(FarfieldError):
    """A kernel matrix cannot be inverted in the precision it is held in."""


class ConvergenceError(FarfieldError):
    """An iteration ended before it reached what was asked for."""


class FarfieldWarning(UserWarning):
    """Base of every warning that farfield gives."""


class AccuracyWarning(FarfieldWarning):
    """A number may be less accurate than it should be."""


class ConditioningWarning(FarfieldWarning):
    """A kernel matrix is so close to singular that predictions lose digits."""


class DuplicateWarning(FarfieldWarning):
    """Equal inputs have different targets, which no function can meet."""


class UntrainedWarning(FarfieldWarning):
    """A network was changed, and computes something else until it is trained again."""
