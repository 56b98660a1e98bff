"""Which network to take, from paired scores over seeds, and why."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from farfield.studies.statistics import Mean, mean


def verdict(metrics: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """Say which network to take and why.

    The networks are compared by R2 out of domain, seed by seed (all models of a seed share
    its split). Those whose mean difference to the best has a 95 % interval that includes 0
    cannot be told apart from it; among these a network with LayerNorm is preferred, since its
    output is bounded over all inputs, and the first one of them in reading order.

    Args:
        metrics: Columns variant, seed, domain, r2 and max_abs_prediction.
        labels: Label of each network by its key, in reading order; "standard" is one of them.

    Returns:
        One to three sentences.
    """
    outside = _r2(metrics, "out")
    inside = _r2(metrics, "in")
    networks = list(labels)
    if outside[networks].isna().any(axis=None):
        return (
            "R2 out of domain is undefined, because the target is constant there; compare the "
            "errors in the table."
        )
    best = str(outside[networks].mean().idxmax())
    tied = [key for key in networks if key == best or _includes_zero(outside[best] - outside[key])]
    normed = [key for key in tied if key != "standard"]
    taken = normed[0] if normed else "standard"
    sentences = [_recommendation(taken, labels, metrics, outside, inside)]
    others = [labels[key] for key in tied if key != taken]
    if others and len(outside) > 1:
        sentences.append(
            f"Out of domain it cannot be told apart from {_listed(others)}: their differences "
            "are within chance (95 % intervals that include 0)."
        )
    if len(outside) < 2:
        sentences.append("With a single seed, differences cannot be told from chance.")
    if outside[taken].mean() < 0:
        sentences.append(
            "Its R2 out of domain is below 0: a constant would predict better there, so do not "
            "rely on any of these networks out of domain."
        )
    if "xgboost" in outside and _below(outside[taken], outside["xgboost"]):
        sentences.append(
            f"XGBoost does better still out of domain (R2 {mean(outside['xgboost'])})."
        )
    return " ".join(sentences)


def _recommendation(
    taken: str,
    labels: Mapping[str, str],
    metrics: pd.DataFrame,
    outside: pd.DataFrame,
    inside: pd.DataFrame,
) -> str:
    if taken == "standard":
        rivals = [key for key in labels if key != "standard"]
        rival = str(outside[rivals].mean().idxmax())
        return (
            f"Take the standard network: out of domain its R2 is {mean(outside[taken])}, that of "
            f"the best network with LayerNorm ({labels[rival]}) {mean(outside[rival])}; but "
            "nothing bounds its output further out."
        )
    difference = mean(outside[taken] - outside["standard"])
    largest = metrics[metrics["domain"] == "out"].groupby("variant")["max_abs_prediction"].max()
    return (
        f"Take {labels[taken]}: out of domain its R2 is {mean(outside[taken])} against "
        f"{mean(outside['standard'])} for the standard network (difference {difference}), "
        f"in domain {mean(inside[taken])} against {mean(inside['standard'])}; its largest "
        f"prediction out of domain is {largest[taken]:.3g}, the standard network's "
        f"{largest['standard']:.3g}."
    )


def _r2(metrics: pd.DataFrame, domain: str) -> pd.DataFrame:
    """R2 with a row for each seed and a column for each model."""
    return metrics[metrics["domain"] == domain].pivot(index="seed", columns="variant", values="r2")


def _includes_zero(differences: pd.Series) -> bool:
    interval: Mean = mean(differences)
    return not abs(interval.value) > interval.half_width  # a single seed tells nothing apart


def _below(left: pd.Series, right: pd.Series) -> bool:
    interval = mean(right - left)
    return interval.value > interval.half_width


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
