"""Which network to take, from paired scores over seeds, and why."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from farfield.studies.shared.statistics import mean


def verdict(metrics: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """Say which network to take and why.

    The networks are compared by R2 out of domain, seed by seed (all models of a seed share
    its split). The one with the highest mean is taken. If that is the standard network and one
    with LayerNorm cannot be told apart from it (the mean difference has a 95 % interval that
    includes 0), the best of these is taken instead, since its output is bounded over all inputs.

    Args:
        metrics: Columns variant, seed, domain, r2 and max_abs_prediction.
        labels: Label of each network by its key, in reading order; "standard" is one of them.

    Returns:
        A few sentences.
    """
    outside = _by_seed(metrics, "out", "r2")
    networks = list(labels)
    if outside[networks].isna().any(axis=None):
        return (
            "R2 out of domain is undefined, because the target is constant there; compare the "
            "errors in the table."
        )
    means = outside[networks].mean()
    best = str(means.idxmax())
    rivals = [key for key in networks if key != "standard" and _alike(outside, key, best)]
    taken = str(means[rivals].idxmax()) if rivals else best
    sentences = [_recommendation(metrics, labels, taken, best)]
    alike = [labels[key] for key in networks if key != taken and _alike(outside, key, taken)]
    if len(outside) < 2:
        sentences.append("With a single seed, differences cannot be told from chance.")
    elif alike:
        sentences.append(
            f"Over {len(outside)} seeds its R2 out of domain cannot be told apart from that of "
            f"{_listed(alike)}."
        )
    if (means < 0).all():
        sentences.append(
            "No network has an R2 above 0 out of domain: a constant would predict better there, "
            "so rely on none of them out of domain."
        )
    if "xgboost" in outside and _better(outside, "xgboost", taken):
        sentences.append(
            f"XGBoost does better still out of domain (R2 {mean(outside['xgboost'])})."
        )
    return " ".join(sentences)


def _recommendation(metrics: pd.DataFrame, labels: Mapping[str, str], taken: str, best: str) -> str:
    outside, inside = (_by_seed(metrics, domain, "r2") for domain in ("out", "in"))
    largest = _by_seed(metrics, "out", "max_abs_prediction")
    if taken == "standard":
        rivals = [key for key in labels if key != "standard"]
        rival = str(outside[rivals].mean().idxmax())
        return (
            f"Take the standard network: out of domain its R2 is {mean(outside[taken])}, that of "
            f"the best network with LayerNorm ({labels[rival]}) {mean(outside[rival])}; but "
            "nothing bounds its output further out."
        )
    reason = (
        "LayerNorm bounds its output, and the standard network's lead is within chance"
        if best == "standard"
        else f"a difference of {mean(outside[taken] - outside['standard'])}"
    )
    return (
        f"Take {labels[taken]}: out of domain its R2 is {mean(outside[taken])} against "
        f"{mean(outside['standard'])} for the standard network ({reason}), in domain "
        f"{mean(inside[taken])} against {mean(inside['standard'])}; its largest |prediction| out "
        f"of domain is {mean(largest[taken])} against {mean(largest['standard'])}, and LayerNorm "
        "keeps it bounded however far the input goes."
    )


def _by_seed(metrics: pd.DataFrame, domain: str, score: str) -> pd.DataFrame:
    """A score with a row for each seed and a column for each model."""
    own = metrics[metrics["domain"] == domain]
    return own.pivot(index="seed", columns="variant", values=score)


def _alike(scores: pd.DataFrame, one: str, other: str) -> bool:
    """Whether the paired difference has an interval with 0; a single seed tells nothing apart."""
    difference = mean(scores[one] - scores[other])
    return not abs(difference.value) > difference.half_width


def _better(scores: pd.DataFrame, one: str, other: str) -> bool:
    difference = mean(scores[one] - scores[other])
    return difference.value > difference.half_width


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
