"""The certificate of a user's own trained network, with a table of its outputs and rays."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from farfield.errors import SettingsError
from farfield.growth import Certificate, build_model, certify_model, evaluator, load_weights
from farfield.studies.certificate import figures
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.shared.workspace import CERTIFICATE, Workspace

_RADII = 10.0 ** np.linspace(-3.0, 12.0, 61)
_OTHER_RAYS = 6
_MOST_OUTPUTS = 20  # rows of the table in the report; metrics.csv has all


@dataclass(frozen=True)
class Settings:
    """What is certified.

    Attributes:
        model: ``my_model.py:build``, a Python file and a function in it that returns the model.
        weights: A ``.safetensors`` file or a state dict; the model as it is built by default.
        input_shape: The shape of one input; told by the first layer by default.
        box: Least and largest value of every entry of the input; all of R^d by default.
    """

    model: str
    weights: str | None = None
    input_shape: tuple[int, ...] | None = None
    box: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A certificate, ready to be told.

    Attributes:
        settings: What was certified.
        certificate: The certificate.
        metrics: For each output the proven bounds and what was found.
        predictions: The most telling output on the worst ray and on random ones: ray, radius,
            value.
        record: Settings, versions and machine.
    """

    settings: Settings
    certificate: Certificate
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def story(self) -> Story:
        """The report's content."""
        cert = self.certificate
        of = f"{self.settings.model}" + (
            f" with {self.settings.weights}" if self.settings.weights else ""
        )
        shown = self.metrics.head(_MOST_OUTPUTS).set_index("output").map(_shown)
        return Story(
            title=f"Certificate of {self.settings.model}",
            question=f"How large can the output of {of} get, for {cert.domain}?",
            answer=" ".join(str(cert).splitlines()),
            tables=(
                Table(
                    "Each output: between what it is proven to stay, and the least and largest "
                    "value that a search found.",
                    shown.rename(columns=lambda name: name.replace("_", " ")),
                ),
            ),
            figures=_figures(self),
            remarks=_remarks(self),
            notes=(
                "Proven: the model's own forward ran on what can be said of each value for every "
                "input (intervals, the balls that norms put their outputs on, degrees of "
                "growth); bounds of linear functions were worked out backwards through the "
                "layers. The proof is about real numbers; its last digits allow for evaluation "
                "in float64.",
                f"Found: {cert.worst_found.evaluations:,} inputs in float64: rays to 1e12 and "
                "gradient ascent from many starts. The worst input is in certificate.json.",
            ),
            source=(
                "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
                "Extrapolation (NeurIPS 2025)."
            ),
            rerun=f"farfield.studies.certificate.run(farfield.studies.certificate.{self.settings!r})",
        )


def run(
    settings: Settings,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Result:
    """Certify a network that a Python file builds, with weights from another file.

    Args:
        settings: What to certify.
        out: A folder for ``certificate.json`` and the tables; nothing is written by default.
        overwrite: Replace a run in that folder.

    Returns:
        The certificate with its tables.

    Raises:
        SettingsError: The file, its function, the shape or the box cannot be used.
        DataError: The weights cannot be used.
        MissingExtraError: Weights in safetensors, and the library is not installed.
        UnsupportedOperation: The model does something without a rule.
        OutputError: The folder holds a run, or cannot be written to.
    """
    if settings.box is not None and not settings.box[0] <= settings.box[1]:
        raise SettingsError(
            f"The box from {settings.box[0]:g} to {settings.box[1]:g} is empty; give the lower "
            "limit first."
        )
    model = build_model(settings.model)
    if settings.weights is not None:
        load_weights(model, Path(settings.weights))
    model.eval()
    certificate = certify_model(model, settings.input_shape, settings.box)
    workspace = Workspace.open(
        out, "certificate", settings, data=_hashes(settings), resume=None, overwrite=overwrite
    )
    metrics, predictions = _metrics(certificate), _rays(model, certificate)
    workspace.save(metrics, predictions)
    workspace.write(CERTIFICATE, json.dumps(as_json(certificate), indent=2) + "\n")
    workspace.finish()
    return Result(settings, certificate, metrics, predictions, workspace.record)


def as_json(certificate: Certificate) -> dict[str, object]:
    """The certificate as plain values; what is not proven or not finite is ``None``."""
    cert, found, escape = certificate, certificate.worst_found, certificate.growth.found
    return {
        "bounded": cert.bounded,
        "verdict": cert.verdict,
        "reason": cert.reason,
        "domain": str(cert.domain),
        "bound": {
            "largest": finite_or_none(cert.bound.largest),
            "lower": _numbers(cert.bound.lower),
            "upper": _numbers(cert.bound.upper),
        },
        "growth": {
            "degree": finite_or_none(cert.growth.degree),
            "path": list(cert.growth.path),
            "found": None
            if escape is None
            else {
                "degree": finite_or_none(escape.degree),
                "slope": finite_or_none(escape.slope),
                "output": escape.output,
                "radii": list(escape.radii),
                "values": [finite_or_none(value) for value in escape.values],
                "ray": escape.ray.tolist(),
            },
        },
        "worst_found": {
            "value": finite_or_none(found.value),
            "output": found.output,
            "lower": _numbers(found.lower),
            "upper": _numbers(found.upper),
            "evaluations": found.evaluations,
            "input": found.input.tolist(),
        },
        "notes": list(cert.notes),
    }


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return value if math.isfinite(value) else None


def _numbers(values: torch.Tensor) -> list[float | None]:
    return [finite_or_none(value) for value in values.flatten().tolist()]


def _shown(value: float) -> str:
    return "not proven" if math.isinf(value) else f"{value:.6g}"


def _hashes(settings: Settings) -> dict[str, object]:
    if settings.weights is None:
        return {}
    content = Path(settings.weights).read_bytes()
    return {"file": settings.weights, "sha256": hashlib.sha256(content).hexdigest()}


def _metrics(certificate: Certificate) -> pd.DataFrame:
    bound, found = certificate.bound, certificate.worst_found
    return pd.DataFrame(
        {
            "output": np.arange(len(found.lower)),
            "proven_least": bound.lower.flatten().numpy(),
            "least_found": found.lower.numpy(),
            "largest_found": found.upper.numpy(),
            "proven_largest": bound.upper.flatten().numpy(),
        }
    )


def _rays(model: nn.Module, certificate: Certificate) -> pd.DataFrame:
    """The output that was found largest, along the ray of the worst input and random ones."""
    found, escape = certificate.worst_found, certificate.growth.found
    frames = [pd.DataFrame({"ray": [], "radius": [], "value": []})]
    if certificate.domain.vocabulary is None and certificate.domain.is_everything:
        evaluate = evaluator(model)
        output = found.output if escape is None else escape.output
        generator = torch.Generator().manual_seed(0)
        rays = torch.randn(
            (_OTHER_RAYS + 1, *found.input.shape), dtype=torch.float64, generator=generator
        )
        rays[0] = found.input if escape is None else escape.ray
        radii = torch.from_numpy(_RADII)
        for number, ray in enumerate(rays):
            length = float(ray.norm()) or 1.0
            x = radii.reshape(-1, *(1,) * ray.ndim) * (ray / length)
            with torch.no_grad():
                values = evaluate(x)[:, output].numpy()
            name = "through the worst input" if number == 0 else f"random {number}"
            frames.append(pd.DataFrame({"ray": name, "radius": _RADII, "value": values}))
    return pd.concat(frames, ignore_index=True)


def _figures(result: Result) -> tuple[Figure, ...]:
    if result.predictions.empty:
        return ()
    cert = result.certificate
    escape = cert.growth.found
    output = cert.worst_found.output if escape is None else escape.output
    row = result.metrics.iloc[output]
    told = (
        " The band is what is proven."
        if cert.bounded
        else " The vertical axis is linear between -1 and 1, and logarithmic beyond."
    )
    return (
        Figure(
            "rays",
            f"Output {output} along rays from the origin: the one through the worst input found, "
            f"and {_OTHER_RAYS} random ones.{told}",
            functools.partial(
                figures.rays,
                frame=result.predictions,
                least=float(row["proven_least"]),
                largest=float(row["proven_largest"]),
            ),
        ),
    )


def _remarks(result: Result) -> tuple[str, ...]:
    remarks = list(result.certificate.notes)
    left = len(result.metrics) - _MOST_OUTPUTS
    if left > 0:
        remarks.append(f"{left} more outputs are in metrics.csv.")
    return tuple(remarks)
