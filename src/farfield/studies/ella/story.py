"""The report of the ELLA study: answer, tables and figures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.ella import claims, figures
from farfield.studies.ella.methods import HIGHEST, LOWEST
from farfield.studies.ella.tasks import IMAGES, PROTEINS, TEST
from farfield.studies.shared.claims import claims_table, counted
from farfield.studies.shared.statistics import mean
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.ella.study import Result

_COLUMNS = {
    IMAGES: {
        "accuracy": "accuracy",
        "nll": "negative log likelihood",
        "ece": "calibration error",
        "brier": "Brier score",
    },
    PROTEINS: {
        "rmse": "RMSE",
        "nll": "negative log likelihood",
        "ece": "calibration error",
    },
}
_COSTS = {
    "fit_seconds": "fit (s)",
    "tune_seconds": "tune (s)",
    "predict_seconds": "predict (s)",
    "fit_megabytes": "fit (MB)",
    "predict_megabytes": "predict (MB)",
    "prior_precision": "prior precision",
}
_NOT_DRAWN = (
    *("temperature", "diagonal", "subnetwork", "peer_ella"),
    *("last_probit", "kfac_probit", "ella_probit", "last_evidence", "kfac_evidence"),
)
_ALARMS = {"output_std": "standard deviation", "entropy": "entropy", "novelty": "novelty"}


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: What the study measured.

    Returns:
        Question, answer, tables and figures.
    """
    settings, found = result.settings, result.claims()
    tables = [_scores(result, task) for task in (IMAGES, PROTEINS)]
    tables.append(claims_table(found, "What is claimed, and what was found."))
    tables += [_far(result, task) for task in (IMAGES, PROTEINS)]
    tables += [_alarms(result, task) for task in (IMAGES, PROTEINS)]
    tables += [_costs(result, task) for task in (IMAGES, PROTEINS)]
    tables.append(_ablation(result))
    return Story(
        title="How sure is it out there? Linearised Laplace posteriors of trained networks",
        question=(
            "A trained network gives a number for any input. Which way of asking how sure it is "
            "gives honest probabilities in domain and far from it, and at what cost?"
        ),
        answer=f"{_answer(result)} {counted(found)}",
        tables=tuple(tables),
        figures=_figures(result),
        remarks=tuple(
            f"{settings.labels()[method]} on {task} was not run: {why}"
            for (task, method), why in result.skipped.items()
        ),
        notes=(
            f"Images: {result.source} without the class {settings.hold_out}, "
            f"{settings.train_images} train, {settings.validation} validate, {settings.test} test; "
            f"turned by up to {settings.largest_angle:g} degrees; the class held out. Network: "
            f"convolutions of {settings.channels[0]} and {settings.channels[1]} channels, a hidden "
            f"layer of {settings.image_units}, {settings.image_epochs} epochs of Adam.",
            f"Proteins: surface area below 20,000, {settings.train_rows} train, "
            f"{settings.validation_rows} validate, {settings.test} test; the larger ones are far. "
            f"Hidden widths {', '.join(map(str, settings.hidden))}, {settings.protein_epochs} "
            "epochs of Adam. Targets in standard deviations of the training targets.",
            "Prior precision (and noise, temperature, ELLA's part of the data) by the negative "
            "log likelihood of the same validation data, but by evidence where it says so, looked "
            "for between "
            f"1e{LOWEST:.0f} and 1e{HIGHEST:.0f}. Probabilities are the mean softmax of 512 random "
            "outputs, as in the paper, or where it says so the probit approximation.",
            f"ELLA: M = {settings.inducing}, K = {settings.features} as in the paper, and K = "
            f"{settings.more_features}, each with claims of its own. 'Exact' sees only as many "
            f"samples as its matrix of {settings.exact_size} rows holds, and takes the "
            "probit approximation. laplace-torch with "
            f"BackPACK in batches of {settings.batch_size}.",
            "Seconds are wall time and megabytes the peak above the start, of one process, medians "
            "over seeds; prediction of all test samples. Tuning of laplace-torch keeps the "
            "Jacobians of the validation data.",
            "Calibration error: 15 bins of confidence for classes; for proteins the mean of "
            "|coverage - level| over 19 levels.",
            "After ± stands half of the 95 % confidence interval of the mean over seeds "
            "(Student's t).",
        ),
        source=(
            "Deng, Zhou and Zhu, Accelerated Linearized Laplace Approximation for Bayesian Deep "
            "Learning (NeurIPS 2022), arXiv 2210.12642. Daxberger et al., Laplace Redux (NeurIPS "
            "2021), for laplace-torch. Proteins: P. Rana (2013), DOI 10.24432/C5QW3H, CC BY 4.0. "
            "Fashion-MNIST: Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence."
        ),
        rerun=f"farfield.studies.ella.run(farfield.studies.ella.{settings!r})",
    )


def _scores(result: Result, task: str) -> Table:
    return _means(
        result,
        task,
        {(TEST, column): label for column, label in _COLUMNS[task].items()},
        f"{task.capitalize()} like those of training: mean and 95 % confidence interval over "
        f"{result.settings.seeds} seeds.",
    )


def _far(result: Result, task: str) -> Table:
    domain = "turned" if task == IMAGES else "larger"
    return _means(
        result,
        task,
        {(domain, column): label for column, label in _COLUMNS[task].items()},
        f"{task.capitalize()} far from those of training ({domain}), likewise.",
    )


def _alarms(result: Result, task: str) -> Table:
    frame = result.metrics
    domains = [d for d in frame.loc[frame["task"] == task, "domain"].unique() if d != TEST]
    columns = {
        (domain, f"auroc_{alarm}"): f"{domain}: {label}"
        for domain in domains
        for alarm, label in _ALARMS.items()
        if frame.loc[frame["task"] == task, f"auroc_{alarm}"].notna().any()
    }
    return _means(
        result,
        task,
        columns,
        f"How well alarms tell {task} far from training: area under the curve of true against "
        "false alarms; 0.5 is chance.",
    )


def _answer(result: Result) -> str:
    """The likelihoods in domain of what most readers ask for, in a sentence for each task."""
    names, told = result.settings.labels(), []
    for task in (IMAGES, PROTEINS):
        shown = [
            f"{names[key]}: {mean(claims.by_seed(result, task, key, 'nll'))}"
            for key in ("map", "last", "kfac", "ella", "ella_more")
            if key in names and (task, key) not in result.skipped
        ]
        told.append(
            f"The negative log likelihood of {task} like those of training is: {'; '.join(shown)}."
        )
    return " ".join(told)


def _costs(result: Result, task: str) -> Table:
    names = result.settings.labels()
    frame = result.metrics
    own = frame[(frame["task"] == task) & (frame["domain"] == TEST)]
    medians = own.groupby("method", sort=False)[list(_COSTS)].median()
    table = pd.DataFrame(
        {label: [f"{value:.3g}" for value in medians[column]] for column, label in _COSTS.items()},
        index=pd.Index([names[key] for key in medians.index], name="method"),
    )
    return Table(f"What each method costs on {task}.", table)


def _ablation(result: Result) -> Table:
    frame = result.ablation
    return Table(
        "Errors of ELLA against the exact posterior of the same few samples, seed 0: of the kernel "
        "in the spectral norm, of the covariances of outputs in the mean.",
        pd.DataFrame(
            {
                "M": frame["inducing"].to_numpy(),
                "K": frame["features"].to_numpy(),
                "kernel": [f"{value:.3g}" for value in frame["kernel_error"]],
                "covariance": [f"{value:.3g}" for value in frame["covariance_error"]],
            },
            index=pd.Index(frame["task"].tolist(), name="task"),
        ),
    )


def _means(
    result: Result,
    task: str,
    columns: dict[tuple[str, str], str],
    caption: str,
) -> Table:
    names = result.settings.labels()
    run = [key for key in names if (task, key) not in result.skipped]
    cells = {}
    for (domain, column), label in columns.items():
        values = [claims.by_seed(result, task, key, column, domain) for key in run]
        cells[label] = ["" if own.isna().any() else str(mean(own)) for own in values]
    return Table(
        caption, pd.DataFrame(cells, index=pd.Index([names[k] for k in run], name="method"))
    )


def _figures(result: Result) -> tuple[Figure, ...]:
    shown = {
        task: {
            key: label for key, label in result.settings.labels().items() if key not in _NOT_DRAWN
        }
        for task in (IMAGES, PROTEINS)
    }
    draw = functools.partial
    return (
        Figure(
            "reliability",
            "Accuracy against confidence on images like those of training (left) and turned ones "
            "(right), all seeds together, 15 bins; on the diagonal a network knows what it knows. "
            "Bins with fewer than 10 samples are left out.",
            draw(figures.reliability, predictions=result.predictions, names=shown[IMAGES]),
            size=(9.0, 4.6),
        ),
        Figure(
            "coverage",
            "Part of the targets below the predicted quantile of each level, less the level: "
            "proteins like those of training (left) and larger ones (right), all seeds together. "
            "0 is right.",
            draw(figures.quantiles, predictions=result.predictions, names=shown[PROTEINS]),
            size=(9.0, 4.6),
        ),
        Figure(
            "rays",
            "Along rays from the training proteins: the standard deviation of the output, without "
            "noise, of the exact posterior, of ELLA and of infinite width, and the alarm novelty, "
            "each over its value at distance 1, the typical distance of training points. Mean over "
            "5 rays; both axes logarithmic.",
            draw(figures.rays, frame=result.rays),
            size=(9.0, 4.6),
        ),
        Figure(
            "ablation",
            "Relative error of ELLA's kernel (left) and covariances (right) against the number of "
            "features K, for each number M of inducing samples; images solid, proteins dashed. "
            "Both axes logarithmic.",
            draw(figures.ablation, frame=result.ablation),
            size=(9.0, 4.6),
        ),
    )
