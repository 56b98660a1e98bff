"""What the ELLA paper and this library claim of linearised Laplace, beside what was found."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from farfield.studies.ella.tasks import IMAGES, PROTEINS, TEST
from farfield.studies.shared.claims import NOT_RUN, Claim
from farfield.studies.shared.statistics import Mean, mean

if TYPE_CHECKING:
    from farfield.studies.ella.study import Result

FASTER = 5.0
"""How many times faster than KFAC ELLA shall be."""

_RIVALS = {
    "map": "MAP",
    "last": "the last layer",
    "last_evidence": "the last layer tuned by evidence, as in the paper",
    "last_probit": "the last layer, probit",
}
_COSTS = {
    "kfac": "KFAC",
    "kfac_evidence": "KFAC tuned by evidence, as in the paper",
    "kfac_probit": "KFAC, probit",
}
_BY_DRAWS = ("map", "last", "last_evidence", "kfac", "kfac_evidence")
_COMPARED = {
    "ella": _BY_DRAWS,
    "ella_more": _BY_DRAWS,
    "ella_probit": ("map", "last_probit", "kfac_probit"),
}
"""With what each variant of ELLA is compared: methods that get probabilities the same way."""

_SCORES = {"nll": "negative log likelihood", "ece": "calibration error"}
_FLAT = 1.5  # a standard deviation that grows by less over the last decades has saturated


def claims(result: Result) -> tuple[Claim, ...]:
    """The claims in order.

    Args:
        result: What was measured.

    Returns:
        Of each task: ELLA against MAP and the last layer, and against KFAC; then the ablation and
        what happens far away.
    """
    found = []
    for task in (IMAGES, PROTEINS):
        for own in variants(result, task):
            rivals = _COMPARED[own]
            below = [rival for rival in rivals if rival in _RIVALS]
            for score, rival in itertools.product(_SCORES, below):
                found.append(_below(result, task, own, score, rival))
            found += [_cheaper(result, task, own, rival) for rival in rivals if rival in _COSTS]
    found += [_closer(result, task) for task in (IMAGES, PROTEINS)]
    return (*found, _saturates(result), *(_alarms(result, task) for task in (IMAGES, PROTEINS)))


def by_seed(result: Result, task: str, method: str, column: str, domain: str = TEST) -> pd.Series:
    """A number of the metrics, seed by seed.

    Args:
        result: What was measured.
        task: The task.
        method: Key of the method.
        column: Of the metrics.
        domain: Of the samples.

    Returns:
        By seed; empty if the method was not run.
    """
    frame = result.metrics
    chosen = (frame["task"] == task) & (frame["method"] == method) & (frame["domain"] == domain)
    return frame[chosen].set_index("seed")[column]


def variants(result: Result, task: str) -> tuple[str, ...]:
    """ELLA with each K and link: each has claims of its own, since two tries for one claim would
    make it easier.

    Args:
        result: What was measured.
        task: The task.

    Returns:
        Keys of methods that were run, in order.
    """
    run = set(result.metrics.loc[result.metrics["task"] == task, "method"])
    return tuple(key for key in _COMPARED if key in run)


def _below(result: Result, task: str, key: str, score: str, rival: str) -> Claim:
    name = result.settings.labels()[key]
    item = f"{task}, {score} of {name} against {_RIVALS[rival]}"
    claim = f"The {_SCORES[score]} of {name} is below that of {_RIVALS[rival]}."
    other = by_seed(result, task, rival, score)
    if other.empty:
        return _not_run(item, claim, result.skipped.get((task, rival), ""))
    own = by_seed(result, task, key, score)
    difference = own - other
    return Claim(
        item,
        claim,
        "lower" if task == IMAGES else "no regression in the paper",
        f"{mean(own)} against {mean(other)}",
        told(mean(difference)),
        "Yes if the 95 % interval of the mean difference lies below 0, open if it holds 0: "
        f"{mean(difference)}; lower in {int((difference < 0).sum())} of {len(difference)} seeds.",
    )


def told(difference: Mean) -> bool | None:
    """Whether a difference is below 0 beyond chance.

    Args:
        difference: A mean difference with its interval.

    Returns:
        True if the interval lies below 0, False if above; ``None`` if that cannot be told.
    """
    if difference.value + difference.half_width < 0.0:
        return True
    if difference.value - difference.half_width > 0.0:
        return False
    return None


def _cheaper(result: Result, task: str, key: str, rival: str) -> Claim:
    name = result.settings.labels()[key]
    item = f"{task}, cost of {name} against {_COSTS[rival]}"
    claim = (
        f"At no larger negative log likelihood {name} fits or predicts {FASTER:g} times faster "
        "than laplace-torch's KFAC posterior, in no more memory."
    )
    if by_seed(result, task, rival, "nll").empty:
        return _not_run(item, claim, result.skipped.get((task, rival), ""))
    found = _against_kfac(result, task, key, rival)
    met = {
        "negative log likelihood": found.better,
        "time": found.fast,
        "memory": found.small,
    }
    missed = [what for what, holds in met.items() if holds is False]
    return Claim(
        item,
        claim,
        "a goal of this library",
        found.said,
        None if found.small is None and not missed else not missed,
        f"Missed: {', '.join(missed) or 'nothing'}. Difference of likelihoods by seed: "
        f"{found.difference}. Times without tuning, medians over seeds of their ratios.",
    )


@dataclass(frozen=True)
class _Against:
    """ELLA beside KFAC: in numbers, and whether it is no worse, fast enough and no larger."""

    said: str
    difference: Mean
    fast: bool
    small: bool | None

    @property
    def better(self) -> bool:
        return self.difference.value <= 0.0


def _against_kfac(result: Result, task: str, key: str, rival: str) -> _Against:
    def both(column: str) -> tuple[pd.Series, pd.Series]:
        return by_seed(result, task, key, column), by_seed(result, task, rival, column)

    nll = both("nll")
    factors = {
        name: float((kfac / ours).median())
        for name, (ours, kfac) in (
            ("fitting", both("fit_seconds")),
            ("prediction", both("predict_seconds")),
        )
    }
    fitted, used = both("fit_megabytes"), both("predict_megabytes")
    ours, kfac = (max(fitted[k].median(), used[k].median()) for k in (0, 1))
    said = ", ".join(f"{name} {factor:.2g} times faster" for name, factor in factors.items())
    return _Against(
        f"{said}, {ours:.0f} against {kfac:.0f} MB, negative log likelihood {mean(nll[0])} against "
        f"{mean(nll[1])}",
        mean(nll[0] - nll[1]),
        max(factors.values()) >= FASTER,
        bool(ours <= kfac) if np.isfinite([ours, kfac]).all() else None,
    )


def _closer(result: Result, task: str) -> Claim:
    frame = result.ablation[result.ablation["task"] == task]
    largest = frame[frame["features"] == frame["inducing"]].sort_values("inducing")
    first, last = largest.iloc[0], largest.iloc[-1]
    falls = last["kernel_error"] < first["kernel_error"]
    falls &= last["covariance_error"] < first["covariance_error"]
    return Claim(
        f"{task}, ablation",
        "The kernel and the covariances of ELLA come close to the exact ones as M and K grow.",
        "errors fall with M and K",
        f"M = K = {first['inducing']:.0f}: {first['kernel_error']:.2g} and "
        f"{first['covariance_error']:.2g}; {last['inducing']:.0f}: {last['kernel_error']:.2g} and "
        f"{last['covariance_error']:.2g}",
        bool(falls),
        "Relative errors, of the kernel in the spectral norm, of covariances in the mean.",
    )


def _saturates(result: Result) -> Claim:
    growth = {
        (name, kind): grown(result, name, kind)
        for name in result.rays["network"].unique()
        for kind in ("exact", "ELLA", "infinite width", "novelty")
    }
    normed = [value for (name, kind), value in growth.items() if name.startswith("LayerNorm")][:3]
    plain = [value for (name, kind), value in growth.items() if name.startswith("without")][:3]
    return Claim(
        "Rays",
        "With LayerNorm the standard deviation saturates far from the data; without, it grows.",
        "bounded by the kernel",
        "; ".join(f"{name}, {kind}: {value:.3g} times" for (name, kind), value in growth.items()),
        bool(max(normed) < _FLAT < min(plain)),
        "From 10 to 1000 times the distance of the training data. So the standard deviation of a "
        "network with LayerNorm does not tell far from farther.",
    )


def grown(result: Result, network: str, kind: str) -> float:
    """By what factor a curve along the rays grows from 10 to 1000 times the data's distance.

    Args:
        result: What was measured.
        network: Name of the network.
        kind: Of the curve.

    Returns:
        The factor.
    """
    frame = result.rays
    own = frame[(frame["network"] == network) & (frame["kind"] == kind)]
    near = own.iloc[(own["distance"] - 10.0).abs().argmin()]
    return float(own["value"].iloc[-1] / near["value"])


def _alarms(result: Result, task: str) -> Claim:
    frame = result.metrics
    own = frame[(frame["task"] == task) & (frame["method"] == "ella") & (frame["domain"] != TEST)]
    columns = {"output_std": "standard deviation", "entropy": "entropy", "novelty": "novelty"}
    means = own.groupby("domain", sort=False)[[f"auroc_{key}" for key in columns]].mean()
    said = "; ".join(
        f"{domain}: "
        + ", ".join(
            f"{label} {line[f'auroc_{key}']:.3f}"
            for key, label in columns.items()
            if np.isfinite(line[f"auroc_{key}"])
        )
        for domain, line in means.iterrows()
    )
    best = (means["auroc_novelty"] >= means["auroc_output_std"]).all()
    return Claim(
        f"{task}, alarms",
        "The novelty (distances in tangent features and among the inputs) tells far samples at "
        "least as well as the standard deviation.",
        "a goal of this library",
        said,
        bool(best),
        "Area under the curve of true against false alarms, ELLA; 0.5 is chance.",
    )


def _not_run(item: str, claim: str, why: str) -> Claim:
    return Claim(item, claim, "", NOT_RUN, None, why or "The method was not asked for.")
