"""Theorem 3.3: the bound of the prediction, its three forms, and how loose they are."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from farfield.infinite import infinite_width
from farfield.regression import KernelRegression, certify
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.theory_networks import theory_network
from farfield.studies.theorems.measured import Notes, by_case

ITEM = "Theorem 3.3"
DATA = {"line": "sine on a line", "space": "one of 10 Gaussian inputs"}


def measure(sizes: tuple[int, ...]) -> pd.DataFrame:
    """Bounds and largest values found, for training sets of several sizes.

    Args:
        sizes: Numbers of training points.

    Returns:
        The numbers.
    """
    notes = Notes(ITEM)
    for data in DATA:
        for n in sizes:
            x, y = _data(data, n)
            limit = infinite_width(theory_network(x.shape[1], (1, 1), "first"))
            cert = certify(KernelRegression(limit.ntk).fit(x, y))
            forms = cert.forms
            assert forms is not None
            top, least = cert.kernel_bound.value, cert.smallest_eigenvalue
            notes.add(
                f"{data}, n = {n}",
                n=n,
                constant=top,
                eigenvalue=least,
                target=float(y.abs().max()),
                found=cert.worst_found.value,
                norm=float(forms.norm),
                root=float(forms.root),
                linear=float(forms.linear),
                misprint=top * float(y.abs().max()) / (least * n),
            )
    return notes.frame()


def _data(data: str, n: int) -> tuple[Tensor, Tensor]:
    if data == "line":
        x = torch.linspace(-3.0, 3.0, n, dtype=torch.float64)[:, None]
        return x, x[:, 0].sin()
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 10, dtype=torch.float64, generator=generator)
    return x, x[:, 0]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """The forms of the bound, as text.

    Args:
        frame: What :func:`measure` returned.

    Returns:
        A row for each training set.
    """
    rows = by_case(frame)
    names = {
        "eigenvalue": "lambda_min",
        "target": "largest |y|",
        "found": "largest |f| found",
        "norm": "norm",
        "root": "root (theorem)",
        "linear": "linear",
        "misprint": "C M / (lambda n)",
    }
    shown = rows[list(names)].map("{:.3g}".format).rename(columns=names)
    shown["root / found"] = (rows["root"] / rows["found"]).map("{:.3g}".format)
    return shown.rename_axis(index="training set", columns=None)


def claims(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """The theorem's claims beside the numbers.

    Args:
        frame: What :func:`measure` returned.

    Returns:
        Claims.
    """
    rows = by_case(frame)
    slack = 1.0 + 1e-9  # rounding
    ordered = (
        (rows["found"] <= rows["norm"] * slack)
        & (rows["norm"] <= rows["root"] * slack)
        & (rows["root"] <= rows["linear"] * slack)
    )
    loose = {form: rows[form] / rows["found"] for form in ("norm", "root", "linear")}
    line = rows[rows.index.str.startswith("line")]
    broken = int((rows["misprint"] < rows["found"]).sum())
    return (
        Claim(
            ITEM,
            "With LayerNorm the converged prediction is bounded on any training set: "
            "|f(x)| <= sqrt(n C / lambda_min) max|y|.",
            "B(D) is finite",
            f"{int(ordered.sum())} of {len(rows)} training sets: largest |f| found <= norm <= root "
            "<= linear; too large by "
            + ", ".join(f"{r.min():.2g} to {r.max():.3g} ({form})" for form, r in loose.items()),
            bool(ordered.all()),
            "Loose, since it allows for the worst targets; the norm of f, sqrt(C y' K^-1 y), knows "
            "the targets and stays near.",
        ),
        Claim(
            f"{ITEM}, n and lambda_min",
            "The bound depends on the training set by n and lambda_min.",
            "grows as lambda_min falls",
            f"line, n = {line['n'].iloc[0]:g} to {line['n'].iloc[-1]:g}: lambda_min "
            f"{line['eigenvalue'].iloc[0]:.2g} to {line['eigenvalue'].iloc[-1]:.2g}, root "
            f"{line['root'].iloc[0]:.3g} to {line['root'].iloc[-1]:.3g}, largest |f| "
            f"{line['found'].iloc[0]:.3g} to {line['found'].iloc[-1]:.3g}",
            bool(line["root"].is_monotonic_increasing and line["eigenvalue"].iloc[0] > 0),
            "Points on a line are nearly equal to a network that sees their angle: lambda_min "
            "falls, while the prediction hardly changes.",
        ),
        Claim(
            f"{ITEM}, n in the denominator",
            "A form in circulation, C max|y| / (lambda_min n), is no bound.",
            "not the theorem's",
            f"exceeded on {broken} of {len(rows)} training sets",
            broken > 0,
            "n belongs into the numerator: docs/regression.md has the proof.",
        ),
    )
