"""The report of the theorems: claims, tables and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.shared.claims import claims_frame, claims_table, counted
from farfield.studies.shared.story import SUMMARY, Figure, Story, Table
from farfield.studies.theorems import bounds, bypass, constants, figures, growth
from farfield.studies.theorems.measured import by_case

if TYPE_CHECKING:
    from farfield.studies.theorems.study import Result


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What was measured.

    Returns:
        Question, answer, tables and figures.
    """
    claims = result.claims()
    return Story(
        title="The theorems of the paper as experiments",
        question="What do the theorems say in numbers, and do the numbers agree?",
        answer=counted(claims),
        tables=(
            Table(
                "Agreement.",
                claims_frame(claims)[["ours", "agree"]],
                prose=True,
                item=SUMMARY,
            ),
            claims_table(claims, "Each claim in full."),
            Table(
                "Theorem 3.2: C, proven over all inputs, by depth and place of LayerNorm (ReLU, "
                "sigma_b squared = 0.01).",
                constants.largest_table(result.of(constants.LARGEST)),
                item=constants.LARGEST,
            ),
            Table(
                "Theorem 3.3: two hidden layers of ReLU, LayerNorm first. The forms are explained "
                "in docs/regression.md; C M / (lambda n) is no bound.",
                bounds.table(result.of(bounds.ITEM)),
                item=bounds.ITEM,
            ),
            Table(
                "Theorem C.1: relative variation of Theta(x, x) over inputs of all sizes, and of "
                "Theta(x, x') over pairs of equal soft-cosine. The last two networks do not begin "
                "with Linear and LayerNorm.",
                _scientific(by_case(result.of(constants.CONSTANT))).rename_axis("network"),
                item=constants.CONSTANT,
            ),
            Table(
                "Activations: degree of Theta(x, x) in |x| from 100 to 1000, by the place of "
                "LayerNorm.",
                by_case(result.of(constants.ACTIVATIONS))
                .map(lambda value: f"{abs(round(value, 4)):.4g}")
                .rename_axis(index="activation", columns=None),
                item="Section C",
            ),
            Table(
                "Proposition 3.4: x squared, learned without LayerNorm, then the same function by "
                "networks with LayerNorm and two constant channels of 1 / eps and -1 / eps.",
                bypass.table(result.of(bypass.ITEM)),
                item=bypass.ITEM,
            ),
        ),
        figures=_figures(result),
        remarks=(),
        notes=(
            "Networks are those of the paper's theory: NTK parametrisation, sigma_b squared = "
            "0.01, LayerNorm before the activation, without gain, bias and eps; in proposition "
            "3.4 PyTorch's LayerNorm with gain 1 and bias 0.",
            "Theorem 3.1: 5 inputs in the positive quadrant, targets between 0.5 and 1.5, along "
            "the diagonal.",
            "C is proven by interval arithmetic over all inputs (docs/regression.md), not sampled.",
        ),
        source=(
            "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable Extrapolation "
            "(NeurIPS 2025), sections 3 and C. The closed form of C, the construction of "
            "proposition 3.4 with an exact mean and the targets without growth are farfield's."
        ),
        rerun=f"farfield.studies.theorems.run(farfield.studies.theorems.{result.settings!r})",
    )


def _scientific(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.map("{:.0e}".format).rename_axis(columns=None)


def _figures(result: Result) -> tuple[Figure, ...]:
    return (
        Figure(
            "growth",
            "Theorem 3.1: the prediction of the converged network of infinite width without "
            "LayerNorm, along the diagonal of the plane; 5 training points lie within 2.8 of the "
            "origin. Both axes are logarithmic.",
            functools.partial(
                figures.curves,
                frame=result.of(growth.ITEM).dropna(subset="x"),
                label="|f(x)|",
            ),
            size=(6.0, 3.8),
            item=growth.ITEM,
        ),
        Figure(
            "bounds",
            "Theorem 3.3: the three forms of the bound and the largest |f(x)| that was found, "
            "against the number of training points. Both axes are logarithmic.",
            functools.partial(figures.bounds, frame=by_case(result.of(bounds.ITEM))),
            size=(9.0, 4.0),
            item=bounds.ITEM,
        ),
        Figure(
            "bypass",
            "Proposition 3.4: |f(x)| of a trained network without LayerNorm, and of networks with "
            "LayerNorm that are bypassed by two constant channels 1 / eps and -1 / eps (training "
            "losses in the table). Both axes are logarithmic.",
            functools.partial(
                figures.curves,
                frame=result.of(bypass.ITEM).dropna(subset="x"),
                label="|f(x)|",
            ),
            size=(7.2, 4.2),
            item=bypass.ITEM,
        ),
    )
