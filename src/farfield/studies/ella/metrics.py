"""From posteriors to predictions, and from predictions to scores, for the ELLA study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from farfield.studies.ella.calibration import auroc, class_scores, entropy, gaussian_scores
from farfield.studies.ella.methods import Moments, Posterior, probabilities
from farfield.studies.ella.tasks import TEST, UNKNOWN, Task

ALARMS = ("output_std", "entropy", "novelty")
"""What may tell that a sample is far from the training data; higher is farther."""

COSTS = (
    *("fit_seconds", "tune_seconds", "predict_seconds"),
    *("fit_megabytes", "predict_megabytes", "prior_precision", "noise_var"),
)
"""What is the same for all samples of a task, seed and method."""

KEYS = ["task", "seed", "method"]


def predicted(
    posterior: Posterior, task: Task, domain: str, known: Moments | None = None
) -> pd.DataFrame:
    """What a posterior says of the samples of a domain.

    Args:
        posterior: Fitted and tuned.
        task: The task.
        domain: One of its domains.
        known: Means and covariances there, if they have been computed.

    Returns:
        A row for each sample: ``domain``, ``target``, ``output_std`` (root mean variance of the
        outputs), ``novelty``; for classes ``entropy`` and a column ``p0``, ``p1``, ... for each;
        else ``mean`` and ``std``, of observations.
    """
    x, y = task.domains[domain]
    mean, covariance = posterior.moments(x) if known is None else known
    variance = covariance.diagonal(dim1=1, dim2=2).clamp_min(0.0)
    alarm = posterior.novelty(x)
    found = {
        "domain": domain,
        "target": y.double().flatten().numpy(),
        "output_std": variance.mean(1).sqrt().numpy(),
        "novelty": np.nan if alarm is None else alarm.double().numpy(),
    }
    if task.likelihood == "regression":
        total = (variance + posterior.noise_var).sqrt()
        return pd.DataFrame({**found, "mean": mean[:, 0].numpy(), "std": total[:, 0].numpy()})
    likely = probabilities((mean, covariance), posterior.link).numpy()
    columns = {f"p{label}": likely[:, label] for label in range(likely.shape[1])}
    return pd.DataFrame({**found, "entropy": entropy(likely), **columns})


def class_columns(frame: pd.DataFrame) -> list[str]:
    """The columns with probabilities.

    Args:
        frame: Predictions.

    Returns:
        p0, p1, ... as many as there are.
    """
    return [name for name in frame.columns if name[0] == "p" and name[1:].isdigit()]


def metrics_of(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of each task, seed, method and domain.

    Args:
        predictions: Of all.

    Returns:
        A row for each, with the costs; ``auroc_...`` tells how well an alarm separates a domain
        from that of the test.
    """
    rows = []
    for keys, own in predictions.groupby(KEYS, sort=False):
        inside = own[own["domain"] == TEST]
        for domain, samples in own.groupby("domain", sort=False):
            row = dict(zip(KEYS, keys, strict=True)) | {"domain": domain, "rows": len(samples)}
            row |= _scores(samples)
            if domain != TEST:
                row |= {f"auroc_{a}": _separated(inside, samples, a) for a in ALARMS}
            rows.append(row | own[list(COSTS)].iloc[0].to_dict())
    return pd.DataFrame(rows)


def probabilities_of(samples: pd.DataFrame) -> np.ndarray:
    """Probabilities of the classes, a row for each sample.

    Args:
        samples: Predictions of one task.

    Returns:
        (n, classes)
    """
    found: np.ndarray = samples[class_columns(samples)].to_numpy(float)
    return found


def _scores(samples: pd.DataFrame) -> dict[str, float]:
    target = samples["target"].to_numpy(float)
    if "entropy" not in samples or samples["entropy"].isna().all():
        mean, std = (samples[name].to_numpy(float) for name in ("mean", "std"))
        return gaussian_scores(target, mean, std)
    if (target == UNKNOWN).any():  # no class is right
        return {}
    return class_scores(probabilities_of(samples), target.astype(np.int64))


def _separated(inside: pd.DataFrame, outside: pd.DataFrame, alarm: str) -> float:
    """The area under the curve; not a number for an alarm that a method does not have."""
    if alarm not in inside:
        return float("nan")
    near, far = (frame[alarm].to_numpy(float) for frame in (inside, outside))
    if np.isnan(near).any() or np.ptp(np.concatenate([near, far])) == 0.0:
        return float("nan")
    return auroc(near, far)
