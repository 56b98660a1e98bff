"""The report of the transformer study: tables, answer and figure."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.shared.certified import certificates_table
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.statistics import Mean, mean
from farfield.studies.shared.story import Figure, Story, Table
from farfield.studies.transformer import figures
from farfield.studies.transformer.decoder import VARIANTS

if TYPE_CHECKING:
    from farfield.studies.transformer.study import Result

EXAMPLES = ((1.0, 1.0), (1.0, -1.0))
"""Pairs (a, b) of the sequences that the figure shows; they come first among the tests."""


def claims(result: Result) -> tuple[Claim, ...]:
    """The paper's claim beside what was found.

    Args:
        result: What the study measured.

    Returns:
        The claim of Figure 7.
    """
    verdicts = {key: result.certificates[key].verdict for key in VARIANTS}
    change = _over_seeds(result, "settling")
    holds = verdicts["first"] == "bounded" and change["first"].value < change["standard"].value
    return (
        Claim(
            "Fig. 7",
            "One LayerNorm after the embedding bounds the transformer; without it predictions "
            "go on growing.",
            "a figure, without numbers",
            "; ".join(
                f"{label}: {verdicts[key]}, change at the end {change[key]} of the truth's"
                for key, label in VARIANTS.items()
            ),
            holds and verdicts["standard"] != "bounded",
            "The certificates are proofs over all sequences, the changes are measured on random "
            "ones. Bounded is not right: the truth grows.",
        ),
    )


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figure.
    """
    settings = result.settings
    return Story(
        title="A transformer beyond the sequences it knows",
        question=(
            f"Decoders learn to go on with a + b i up to i = {settings.known}. What do they say up "
            f"to i = {settings.far}, and does one LayerNorm after the embedding keep the answer "
            "within bounds?"
        ),
        answer=_answer(result),
        tables=(_measured(result), _certificates(result)),
        figures=(
            Figure(
                "sequences",
                "Predictions of a + b i from the numbers before it, against i: two sequences, and "
                f"the mean absolute error over {settings.tests} random ones. Lines: mean over "
                f"{settings.seeds} seeds; bands: 95 % confidence intervals of the mean. Grey: i "
                "that training has seen.",
                functools.partial(
                    figures.sequences,
                    frame=result.predictions,
                    labels=VARIANTS,
                    examples=EXAMPLES,
                    known=settings.known,
                ),
                size=(10.0, 3.9),
            ),
        ),
        remarks=tuple(
            f"Certificate, {label}: {result.certificates[key].reason}"
            for key, label in VARIANTS.items()
        ),
        notes=(
            f"Not stated in the paper, and taken here: the network sees {settings.context} numbers "
            "at a time and learns the next number after each of them, on all such stretches of "
            f"{settings.sequences} sequences per seed; tested on stretches of the same length, so "
            "that only the size of the numbers is new. Each number is a token, W x + b plus sines "
            "and cosines of its place in the stretch; ReLU layers of 4 d in the blocks; no other "
            "norm, since one in the blocks' stream would bound the standard network too.",
            f"{settings.epochs} epochs of Adam at {settings.learning_rate:g} in batches of "
            f"{settings.batch_size}; weights N(0, {settings.weight_var:g} / fan_in), biases N(0, "
            f"{settings.bias_var:g}); LayerNorm with PyTorch's gain, bias and eps.",
            "Certificates are about the prediction after the last number, for every stretch of "
            "numbers, of the trained network of seed 0.",
            "Published: only as a figure, without numbers to compare with.",
        ),
        source=(
            "Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable Extrapolation "
            "(NeurIPS 2025), Figure 7."
        ),
        rerun=f"farfield.studies.transformer.run(farfield.studies.transformer.{settings!r})",
    )


def _over_seeds(result: Result, column: str) -> dict[str, Mean]:
    grouped = result.metrics.groupby("variant", sort=False)[column]
    return {str(key): mean(values) for key, values in grouped}


def _measured(result: Result) -> Table:
    settings = result.settings
    columns = {
        "loss of the last epoch": "train_mse",
        f"mean |error| at i = {settings.known}": "error_at_known",
        f"mean |error| at i = {settings.far}": "error_at_far",
        "change at the end / truth's": "settling",
    }
    table = {
        title: [str(_over_seeds(result, column)[key]) for key in VARIANTS]
        for title, column in columns.items()
    }
    return Table(
        f"Mean and 95 % confidence interval over {settings.seeds} seeds. Errors: over "
        f"{settings.tests} random sequences. Change at the end: how much predictions still change "
        f"over the last tenth of the way to i = {settings.far}, in units of the sequence's own "
        "change (median over sequences): 1 goes on like the truth, 0 has settled.",
        pd.DataFrame(table, index=pd.Index(VARIANTS.values(), name="network")),
    )


def _certificates(result: Result) -> Table:
    return certificates_table(
        "Certificates over all stretches of numbers, of the trained networks of seed 0.",
        result.certificates,
        VARIANTS,
    )


def _answer(result: Result) -> str:
    settling, error = _over_seeds(result, "settling"), _over_seeds(result, "error_at_far")
    normed, standard = result.certificates["first"], result.certificates["standard"]
    verdict = {
        (True, False): "Yes, and it is proven: with the LayerNorm the output is bounded over all "
        "sequences, without one it grows",
        (True, None): "Yes: with the LayerNorm the output is proven to be bounded over all "
        "sequences; without one nothing is proven, and no growth was found",
    }.get(
        (bool(normed.bounded), standard.bounded),
        f"With the LayerNorm: {normed.verdict}; without: {standard.verdict}",
    )
    return (
        f"{verdict}. Over the last tenth of the way to i = {result.settings.far} the predictions "
        f"with LayerNorm change {settling['first']} times as much as the truth, those without "
        f"{settling['standard']} times. Bounded is not the same as right: the truth grows for "
        f"ever, and the mean error there is {error['first']} with the LayerNorm, "
        f"{error['standard']} without."
    )
