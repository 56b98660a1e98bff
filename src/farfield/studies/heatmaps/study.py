"""Fig. 2 of "Just One Layer Norm Guarantees Stable Extrapolation": kernels on a square.

The tangent kernel of random networks at pairs of numbers, without LayerNorm and with it at three
places, beside the exact kernel of infinite width, and how the one tends to the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from farfield.empirical import empirical_ntk
from farfield.errors import SettingsError
from farfield.infinite import infinite_width
from farfield.studies.heatmaps import claims, story
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Story
from farfield.studies.shared.theory_networks import theory_network
from farfield.studies.shared.variants import Variant, check_scale, variants
from farfield.studies.shared.workspace import Workspace

EXACT = "exact"
"""Name of the kernel of infinite width in the tables."""

_RAY = 13

QUICK = {"seeds": 3, "widths": (128, 512), "grid": 51}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the heat-maps; the defaults are the paper's where it states them.

    Attributes:
        seeds: Networks of each kind and width, drawn from the seeds 0, 1, ...
        widths: Widths of both hidden layers, increasing; heat-maps show the first, the paper's 128.
        far: The square goes from -far to far.
        grid: Inputs along each side; odd, so that 0 is one of them. Not stated in the paper.
        farthest: Rays go to this input.
        bias_var: sigma_b squared.
    """

    seeds: int = 5
    widths: tuple[int, ...] = (128, 512, 2048)
    far: float = 25.0
    grid: int = 101
    farthest: float = 1e6
    bias_var: float = 0.01

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_scale(self.seeds, self.widths, "relu", 2.0, self.bias_var)
        if self.bias_var == 0.0:
            raise SettingsError(
                "bias_var is 0: LayerNorm of the first layer is then undefined at the input 0; "
                "give a variance above 0."
            )
        if list(self.widths) != sorted(set(self.widths)):
            raise SettingsError(f"The widths {self.widths} must increase.")
        if self.grid < 3 or self.grid % 2 == 0:
            raise SettingsError(f"grid is {self.grid}; it must be an odd number above 2.")
        if not 0.0 < self.far < self.farthest < float("inf"):
            raise SettingsError(
                f"far is {self.far} and farthest {self.farthest}; they must be finite, above 0 and "
                "increase."
            )


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        settings: The settings.
        metrics: For each variant, width and seed: the relative error of the kernel against the
            exact one on the square, in Frobenius norms, and Theta(far, far) and
            Theta(far, -far); width 0 is the exact kernel.
        predictions: Values of the kernel (``exact``, or the mean over seeds of the first width)
            for each variant: x, other, value; part ``square`` has all pairs, part ``ray``
            Theta(x, far) from far to farthest.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    record: Mapping[str, object]

    def compared(self) -> tuple[Variant, ...]:
        """The networks compared, in order."""
        return variants("layer", 2)

    def errors(self) -> pd.DataFrame:
        """Relative error by width (row) and variant (column), mean and interval over seeds."""
        finite = self.metrics[self.metrics["width"] > 0]
        table = finite.pivot_table(
            index="width",
            columns="variant",
            values="relative_error",
            aggfunc=lambda values: str(mean(values)),
        )
        labels = {variant.key: variant.label for variant in self.compared()}
        return table[list(labels)].rename(columns=labels)

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return claims.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    settings: Settings | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Compute the kernels of random networks on a square, and the exact ones.

    The networks are those of the paper's theory (:func:`theory_network`), two hidden layers of
    ReLU; the finite kernels count each gradient with the variance of its parameter, so that they
    tend to the infinite ones.

    Args:
        settings: The settings; the paper's by default.
        out: A folder for settings and values; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Errors and values.

    Raises:
        SettingsError: Settings other than those of the run to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), Figure 2.

    Example:
        >>> import farfield as ff
        >>> settings = ff.studies.heatmaps.Settings(seeds=2, widths=(16, 64), grid=5)
        >>> result = ff.studies.heatmaps.run(settings)
        >>> list(result.errors().index)
        [16, 64]
    """
    settings = settings if settings is not None else Settings()
    workspace = Workspace.open(out, "heatmaps", settings, resume=resume, overwrite=overwrite)
    compared = variants("layer", 2)
    metrics, values = pd.DataFrame(), pd.DataFrame()
    per_width = settings.seeds * len(compared)
    with Steps(per_width * len(settings.widths), progress) as steps:
        exact = {variant.key: _kernel(settings, variant, None, 0) for variant in compared}
        for variant in compared:
            metrics = pd.concat([metrics, _row(settings, variant, 0, 0, exact)])
            values = pd.concat([values, _values(settings, variant, EXACT, exact[variant.key])])
        for width in settings.widths:
            done = steps.stage(f"width {width}", per_width)
            for number, variant in enumerate(compared):
                drawn = _drawn(settings, variant, width, workspace)
                for seed, kernel in enumerate(drawn):
                    row = _row(settings, variant, width, seed, {**exact, "drawn": kernel})
                    metrics = pd.concat([metrics, row])
                if width == settings.widths[0]:
                    name = f"width {width}"
                    values = pd.concat([values, _values(settings, variant, name, drawn.mean(0))])
                done((number + 1) * settings.seeds)
            workspace.save(metrics, values)
    workspace.finish()
    return Result(
        settings,
        metrics.reset_index(drop=True),
        values.reset_index(drop=True),
        workspace.record,
    )


def _points(settings: Settings) -> Tensor:
    """The inputs: the side of the square, then a ray from far on."""
    half = torch.linspace(0.0, settings.far, settings.grid // 2 + 1, dtype=torch.float64)
    start, end = math.log10(settings.far), math.log10(settings.farthest)
    ray = torch.logspace(start, end, _RAY, dtype=torch.float64)
    return torch.cat([-half[1:].flip(0), half, ray])[:, None]


def _kernel(settings: Settings, variant: Variant, width: int | None, seed: int) -> Tensor:
    """Columns are the square's side alone; of infinite width if none is given."""
    norm_at = None if variant.norm is None else variant.norm_at
    network = theory_network(1, (width or 1,) * 2, norm_at, bias_var=settings.bias_var, seed=seed)
    x = _points(settings)
    if width is None:
        return infinite_width(network).ntk(x, x[: settings.grid])
    with torch.no_grad():
        return empirical_ntk(network, parameterization="ntk")(x, x[: settings.grid])


def _drawn(settings: Settings, variant: Variant, width: int, workspace: Workspace) -> Tensor:
    """The kernels of all seeds, one behind the other."""

    def compute() -> pd.DataFrame:
        kernels = [_kernel(settings, variant, width, seed) for seed in range(settings.seeds)]
        return pd.DataFrame(torch.cat(kernels).numpy()).rename(columns=str)

    frame = workspace.part(f"{variant.key}-{width}", compute)
    return torch.from_numpy(frame.to_numpy().copy()).reshape(settings.seeds, -1, settings.grid)


def _row(
    settings: Settings, variant: Variant, width: int, seed: int, kernels: Mapping[str, Tensor]
) -> pd.DataFrame:
    exact = kernels[variant.key][: settings.grid]
    kernel = kernels.get("drawn", kernels[variant.key])[: settings.grid]
    return pd.DataFrame(
        {
            "variant": [variant.key],
            "width": [width],
            "seed": [seed],
            "relative_error": [float((kernel - exact).norm() / exact.norm())],
            "at_far": [float(kernel[-1, -1])],
            "at_opposite": [float(kernel[-1, 0])],
        }
    )


def _values(settings: Settings, variant: Variant, name: str, kernel: Tensor) -> pd.DataFrame:
    x, side = _points(settings)[:, 0], settings.grid
    square = pd.DataFrame(
        {
            "kernel": name,
            "variant": variant.key,
            "part": "square",
            "x": x[:side].repeat_interleave(side).numpy(),
            "other": x[:side].repeat(side).numpy(),
            "value": kernel[:side].flatten().numpy(),
        }
    )
    ray = pd.DataFrame(
        {
            "kernel": name,
            "variant": variant.key,
            "part": "ray",
            "x": x[side:].numpy(),
            "other": settings.far,
            "value": kernel[side:, -1].numpy(),
        }
    )
    return pd.concat([square, ray])
