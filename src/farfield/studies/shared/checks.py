"""Settings that mean nothing, refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from farfield.errors import SettingsError


def check_at_least(settings: object, least: Mapping[str, int]) -> None:
    """Refuse numbers that are too small.

    Args:
        settings: A data class.
        least: Its fields, each with the smallest number allowed.

    Raises:
        SettingsError: Which one it is, and what is allowed.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value < smallest:
            raise SettingsError(f"{name} is {value}; it must be at least {smallest}.")


def check_increasing(settings: object, *names: str) -> None:
    """Refuse lists that are empty, do not increase, or hold what is not finite and above 0.

    Args:
        settings: A data class.
        *names: Its fields.

    Raises:
        SettingsError: Which one it is, and what is allowed.
    """
    for name in names:
        values = getattr(settings, name)
        increase = list(values) == sorted(set(values))
        if not values or not increase or not 0.0 < values[0] <= values[-1] < float("inf"):
            raise SettingsError(f"{name} is {values}; give increasing numbers above 0.")
