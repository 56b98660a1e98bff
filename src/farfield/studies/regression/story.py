"""The report of predictions by an infinitely wide network."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from farfield.studies.regression import figures
from farfield.studies.regression.fit import RIDGE_ROWS, RIDGES
from farfield.studies.regression.rays import MOST_CURVES, typical_row
from farfield.studies.shared.story import Figure, Story, Table

if TYPE_CHECKING:
    from farfield.studies.regression.study import Result

_MOST_ROWS = 20  # of a table in the report; the files have all
_FORMS = {
    "norm": "norm: sqrt(C a' K a)",
    "root": "root: sqrt(n C / lambda_min) max|y|",
    "linear": "linear: n C / lambda_min max|y|",
}
_SCORES = {
    "rows": "rows",
    "r2": "R2",
    "rmse": "RMSE",
    "mae": "MAE",
    "coverage": "within the 95 % interval",
    "least_prediction": "least prediction",
    "largest_prediction": "largest prediction",
}
_STD = {
    "ensemble": "over an ensemble of such networks, each trained from its own initialisation",
    "posterior": "of the Bayesian posterior with the kernel as prior covariance",
    "none": "none",
}


def story(result: Result) -> Story:
    """The report's content.

    Args:
        result: The predictions.

    Returns:
        Question, answer, tables and figures.
    """
    settings, record = result.settings, result.record
    data = record["data"]
    assert isinstance(data, dict)
    train, new = data["train"]["table"], data["new"]["table"]
    return Story(
        title=f"Predicting {settings.target} with {_network(result)}",
        question=(
            f"Fitted to {len(result.fitted.rows):,} rows of {train}: what does it predict for the "
            f"{result.new.total:,} rows of {new}, and how large can it get for any input?"
        ),
        answer=" ".join([_bound(result), _far(result), _rows(result)]).strip(),
        tables=_tables(result),
        figures=_figures(result),
        remarks=(*_found(result), *result.warned),
        notes=_notes(result),
        source=(
            "Jacot, Gabriel and Hongler, Neural Tangent Kernel (NeurIPS 2018), and Lee et al., "
            "Wide Neural Networks of Any Depth Evolve as Linear Models (NeurIPS 2019), for the "
            "predictor; Ziomek, Whittle and Osborne, Just One Layer Norm Guarantees Stable "
            f"Extrapolation (NeurIPS 2025), for its bound. Data: {train}, {new}."
        ),
        rerun=(
            f"farfield.studies.regression.run(train, new, farfield.studies.regression.{settings!r})"
        ),
    )


def _network(result: Result) -> str:
    norm = result.settings.norm
    where = "no LayerNorm" if norm == "none" else f"LayerNorm {norm}"
    kind = "a trained" if result.settings.kernel == "ntk" else "a Bayesian"
    return f"{kind} network of infinite width ({where})"


def _bound(result: Result) -> str:
    cert, target = result.certificate, result.settings.target
    if cert.bounded:
        lower, upper = result.bounds
        if lower == upper:
            return f"Bounded: the prediction of {target} is {lower:.6g} for every input."
        return (
            f"Bounded: for every input there is, the prediction of {target} stays between "
            f"{lower:.4g} and {upper:.4g} (proven; from the training mean "
            f"{cert.ratio:.3g} times as far as the largest that a search found)."
        )
    if cert.bounded is None:
        return f"Not proven either way: {cert.reason}"
    escape = cert.growth.found
    assert escape is not None
    return (
        f"Not bounded: without a norm the prediction of {target} grows without end, like the "
        f"distance to the power {escape.degree:.3g}; on the steepest ray found by "
        f"{abs(escape.slope) * float(result.fitted.outputs.unit[0]):.4g} for each standard "
        f"deviation of the features{'' if escape.degree == 1 else ' to that power'}. One LayerNorm "
        "(--norm first) bounds it."
    )


def _far(result: Result) -> str:
    """The limit of the feature that the new rows go furthest in."""
    if result.limits.empty:
        return ""
    name = _furthest(result)
    own = result.limits[result.limits["feature"] == name]
    ends = _gone_to(own)
    goes = "goes to" if (own["degree"] == 0).all() else f"grows like (x for {name})"
    return (
        f"As {name} falls or rises without end, the prediction {goes} {ends[0]} or {ends[1]}, "
        "respectively."
    )


def _furthest(result: Result) -> str:
    names = list(dict.fromkeys(result.limits["feature"]))
    standard = abs(result.fitted.inputs.apply(result.new.features)).max(axis=0)
    place = {name: k for k, name in enumerate(result.prepared.names)}
    return str(max(names, key=lambda name: float(standard[place[name]])))


def _gone_to(limits: pd.DataFrame) -> list[str]:
    """What the prediction goes to in each row of a table of limits."""
    return [
        f"{limit:.4g}" + ("" if degree == 0 else " |x|" if degree == 1 else f" |x|^{degree:.3g}")
        for limit, degree in zip(limits["limit"], limits["degree"], strict=True)
    ]


def _rows(result: Result) -> str:
    parts = result.metrics.set_index("part")
    outside = int(result.predictions["outside"].eq(True).sum())
    total = len(result.new.rows)
    text = f"{outside:,} of {total:,} new rows lie outside the training ranges."
    if "rmse" in parts:
        scored = parts[parts["rmse"].notna()]
        told = [
            f"{name}: RMSE {row['rmse']:.4g}"
            + (f", R2 {row['r2']:.3g}" if math.isfinite(row["r2"]) else "")
            for name, row in scored.iterrows()
        ]
        text += f" Where the target is known, {'; '.join(told)}."
    return text


def _tables(result: Result) -> tuple[Table, ...]:
    scores = result.metrics.set_index("part").rename_axis("new rows")
    shown = scores[[name for name in _SCORES if name in scores]].rename(columns=_SCORES)
    tables = [
        Table(
            "The new rows: all, and those inside and outside the ranges of the training features.",
            shown.map(_number),
        )
    ]
    limits = result.limits.head(2 * _MOST_ROWS).rename(columns={"feature": "as feature"})
    if len(limits):
        limits["prediction goes to"] = _gone_to(limits)
        limits["training range"] = [
            f"{row.least:.4g} to {row.largest:.4g}" for row in limits.itertuples()
        ]
        columns = ["as feature", "direction", "prediction goes to", "training range"]
        tables.append(
            Table(
                "Far away: where the prediction goes as one feature goes to infinity and the "
                "others stay at their mean"
                + (" (x: the feature)." if (limits["degree"] > 0).any() else "."),
                limits[columns].set_index("as feature"),
            )
        )
    tables.append(_forms(result))
    outside = result.predictions[result.predictions["outside"].eq(True)]
    if len(outside):
        worst = outside.sort_values("outside_by", ascending=False).head(_MOST_ROWS // 2)
        chosen = worst[["row", "prediction", "std", "limit", "note"]].dropna(axis=1, how="all")
        chosen = chosen.assign(
            **{
                name: chosen[name].map("{:.4g}".format)
                for name in ("prediction", "std", "limit")
                if name in chosen
            }
        )
        tables.append(
            Table(
                "The new rows that are furthest outside (sd: standard deviations of the feature "
                "in training; limit: that of the prediction on the ray through the row, or its "
                "coefficient of growth).",
                chosen.set_index("row"),
            )
        )
    return tuple(tables)


def _forms(result: Result) -> Table:
    cert, unit = result.certificate, float(result.fitted.outputs.unit[0])
    found = cert.worst_found.value
    rows = {"largest that a search found": found}
    for name, label in _FORMS.items():
        rows[label] = float(getattr(cert.forms, name)[0]) if cert.forms else math.inf
    proven = "" if cert.bounded else " They are no bounds: C has no bound that is proven."
    return Table(
        f"How far predictions can be from the training mean {result.fitted.outputs.shift[0]:.4g}: "
        f"three bounds, the least of which counts. C = {cert.kernel_bound.value:.6g} is the "
        "largest value of the kernel's diagonal, "
        f"lambda_min = {cert.smallest_eigenvalue:.3g} the smallest eigenvalue of the matrix with "
        f"the ridge, n = {cert.points:,} the number of distinct rows.{proven}",
        pd.DataFrame(
            {
                f"in units of {result.settings.target}": [_number(unit * v) for v in rows.values()],
                "times the largest found": [
                    _number(v / found) if found else "" for v in rows.values()
                ],
            },
            index=pd.Index(rows, name="bound"),
        ),
    )


def _number(value: float | int) -> str:
    if math.isinf(value):
        return "none"
    return "" if math.isnan(value) else f"{value:.4g}" if value != round(value) else f"{value:,.0f}"


def _figures(result: Result) -> tuple[Figure, ...]:
    settings = result.settings
    known = result.predictions[result.predictions["prediction"].notna()]
    band = " Bars: 95 % intervals." if settings.std != "none" else ""
    drawn = [
        Figure(
            "predictions",
            f"Predictions of {settings.target} for the new rows against the distance to the "
            "nearest training row (in standard deviations of the training features)."
            f"{band} Triangles are rows outside the training ranges"
            + (", black dots the known targets." if "target" in known else ".")
            + (
                f" {figures.MOST_POINTS:,} of the rows, evenly chosen."
                if len(known) > figures.MOST_POINTS
                else ""
            ),
            functools.partial(figures.predictions, frame=known, target=settings.target),
            size=(7.2, 4.4),
        )
    ]
    if not result.curves.empty:
        count = result.curves["feature"].nunique()
        most = (
            f" The {MOST_CURVES} features in which new rows are furthest from the training mean."
            if result.limits["feature"].nunique() > MOST_CURVES
            else ""
        )
        drawn.append(
            Figure(
                "rays",
                f"The prediction of {settings.target} along each feature, the others as in the "
                f"most typical training row ({_typical(result)}). Grey: the range in training. "
                "Dashed: "
                + (
                    "the limit as the feature goes to infinity."
                    if (result.limits["degree"] == 0).all()
                    else "the leading term of its growth."
                )
                + (" Band: 95 % interval." if settings.std != "none" else "")
                + most,
                functools.partial(
                    figures.rays,
                    curves=result.curves,
                    limits=result.limits,
                    target=settings.target,
                ),
                size=(7.2, 0.6 + 2.5 * math.ceil(count / 2)),
            )
        )
    drawn.append(
        Figure(
            "bound",
            f"How far {settings.target} is from its training mean: in the training rows, in the "
            "predictions of the new rows, in the largest prediction that a search over all inputs "
            + (
                "found (up to 1e12 times the training data), and what is proven for every input. "
                if result.certificate.bounded
                else "found, up to 1e12 times the training data: there is no bound. "
            )
            + "Logarithmic scale.",
            functools.partial(
                figures.bound,
                sizes=_sizes(result),
                unit=f"distance of {settings.target} from its training mean",
            ),
            size=(7.2, 2.9),
        )
    )
    return tuple(drawn)


def _typical(result: Result) -> str:
    row = result.fitted.rows[typical_row(result.prepared, result.fitted)]
    return f"row {result.prepared.rows[row]}, counted from 0: the one nearest to the mean"


def _sizes(result: Result) -> dict[str, tuple[float, bool]]:
    """Distances from the training mean, and whether they are proven bounds."""
    level, unit = (float(v[0]) for v in (result.fitted.outputs.shift, result.fitted.outputs.unit))
    train = result.prepared.target[result.fitted.rows]
    sizes = {
        "training rows": (float(abs(train - level).max()), False),
        "new rows, predicted": (
            float((result.predictions["prediction"] - level).abs().max()), False,
        ),
        "all inputs, found": (unit * result.certificate.worst_found.value, False),
    }  # fmt: skip
    forms = result.certificate.forms
    if result.certificate.bounded and forms is not None:
        for name in _FORMS:
            sizes[f"all inputs, proven ({name})"] = (unit * float(getattr(forms, name)[0]), True)
    return sizes


def _found(result: Result) -> list[str]:
    """What a reader should know about the tables."""
    prepared, new = result.prepared, result.new
    trained, there = len(result.fitted.rows), len(prepared.target)
    notes = [f"{len(prepared.names)} features: {_listed(prepared.names)}."]
    if trained < there:
        notes.append(f"Trained on {trained:,} random rows of {there:,} (--rows).")
    if prepared.dropped:
        notes.append(f"Training rows with a missing value, left out: {prepared.dropped:,}.")
    if prepared.encoded:
        notes.append(f"Text columns as 0/1 columns: {_listed(prepared.encoded)}.")
    if prepared.ignored:
        notes.append(f"Columns that are no features: {_listed(prepared.ignored)}.")
    extra = [name for name in new.unused if name not in prepared.ignored]
    if extra:
        notes.append(f"Columns of the new table that training does not have: {_listed(extra)}.")
    if new.missing:
        notes.append(f"New rows with a missing value, without a prediction: {len(new.missing):,}.")
    for column, mask in new.unseen.items():
        values = new.frame.loc[mask, column].astype(str).unique()
        notes.append(
            f"{column} has values in {int(mask.sum()):,} new rows that training has not "
            f"({_listed(values[:5])}); all its 0/1 columns are 0 there, and the rows count as "
            "outside."
        )
    if result.fitted.chosen.at_end:
        notes.append(
            f"The ridge is an end of what was tried ({RIDGES[0]:g} to {RIDGES[-1]:g}); try others "
            "with --ridge."
        )
    return notes


def _listed(names: Iterable[object]) -> str:
    words = [str(name) for name in names]
    return ", ".join(words[:12]) + (f" and {len(words) - 12} more" if len(words) > 12 else "")


def _notes(result: Result) -> tuple[str, ...]:
    settings, chosen = result.settings, result.fitted.chosen
    how = "as asked for" if settings.ridge is not None else "chosen"
    error = (
        f"; the root mean square leave-one-out error of {chosen.rows:,} "
        f"{'random rows' if chosen.rows == RIDGE_ROWS else 'rows'} is {chosen.error:.4g}"
        if chosen.rows
        else ""
    )
    notes = [
        "Features and target were brought to mean 0 and standard deviation 1 by the training rows; "
        f"everything is told in units of {settings.target}. Far away the network goes back towards "
        "no particular value: its limits depend on the direction.",
        f"{settings.hidden} hidden layers of infinite width, {settings.activation}, LayerNorm: "
        f"{settings.norm}; weights N(0, {settings.weight_var:g} / fan_in), biases N(0, "
        f"{settings.bias_var:g}); kernel regression with the exact kernel ({settings.kernel}), "
        f"ridge {chosen.ridge:.3g} ({how}{error}).",
        "Proven: |f(x)| <= sqrt(k(x, x)) sqrt(a' K a) by the inequality of Cauchy and Schwarz, "
        "with the coefficients a, and k(x, x) <= C for every input x. docs/regression.md has the "
        "proof and why no bound has n in its denominator.",
    ]
    if settings.std != "none":
        notes.append(
            f"Standard deviations are {_STD[settings.std]}, of a function without noise. The 95 % "
            "interval has 1.96 times the root of their square plus that of the leave-one-out "
            "error on both sides. Outside the training ranges it tells how networks differ from "
            "each other, not whether they are right."
        )
    return tuple(notes)
