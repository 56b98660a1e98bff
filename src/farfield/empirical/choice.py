"""Which parameters of a model count, and in which kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from farfield.errors import SettingsError

ParameterChoice = str | Sequence[str] | Callable[[str, Tensor], bool] | None
"""Names or beginnings of names, or a function of a parameter's name and value."""

ALL = ""
"""Name of the kernel of all parameters."""


def chosen(model: nn.Module, choice: ParameterChoice) -> dict[str, Tensor]:
    """The parameters that count, in the order of the model.

    Args:
        model: The model.
        choice: Which of those that need a gradient; all of them when ``None``.

    Returns:
        Name -> parameter.

    Raises:
        SettingsError: A name that the model does not have, or no parameter is left.
    """
    everything: dict[str, Tensor] = dict(model.named_parameters())
    wanted = {name: p for name, p in everything.items() if p.requires_grad}
    if callable(choice):
        wanted = {name: p for name, p in wanted.items() if choice(name, p)}
    elif choice is not None:
        if not isinstance(choice, str | Iterable):
            raise SettingsError(
                f"parameters is of type {type(choice).__name__}; give names or beginnings of "
                "names, or a function of name and value."
            )
        starts = [choice] if isinstance(choice, str) else list(choice)
        for start in starts:
            if not any(_begins(name, start) for name in everything):
                raise SettingsError(
                    f"parameters names {start!r}, but the model has no such parameter or module; "
                    f"its parameters are {', '.join(everything) or 'none'}."
                )
        wanted = {n: p for n, p in wanted.items() if any(_begins(n, start) for start in starts)}
    if not wanted:
        raise SettingsError(
            "No parameter is left to count: the model has none with requires_grad=True"
            + (" that parameters=... leaves over." if choice is not None else ".")
        )
    return wanted


def _begins(name: str, start: object) -> bool:
    return name == start or name.startswith(f"{start}.")


def groups_of(names: Sequence[str], by: str | None) -> dict[str, list[str]]:
    """Which parameters make up which kernel.

    Args:
        names: The parameters that count.
        by: ``"parameter"``, ``"module"``, or ``None`` for a single kernel.

    Returns:
        Name of a kernel -> names of parameters.

    Raises:
        SettingsError: Another word.
    """
    if by is None:
        return {ALL: list(names)}
    if by == "parameter":
        return {name: [name] for name in names}
    if by == "module":
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name.rpartition(".")[0], []).append(name)
        return groups
    raise SettingsError(f"by is {by!r}; choose 'parameter', 'module' or None.")
