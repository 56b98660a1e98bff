"""Every test draws fresh numbers; the seed is printed with a failure."""

from randomness import fresh_numbers

__all__ = ["fresh_numbers"]
