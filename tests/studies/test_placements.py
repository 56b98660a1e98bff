"""The placement study: its designs, its tasks, what it concludes, and a short run of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure as Canvas
from scipy import stats
from torch import nn

from farfield.data import prepare, split_by_group
from farfield.errors import DataError, SettingsError
from farfield.studies import abalone, placements
from farfield.studies.placements import tasks
from farfield.studies.placements.analysis import (
    advised,
    compared,
    differences,
    effects,
    ranks,
    ratio,
    trends,
)
from farfield.studies.placements.conclusion import conclusion, findings
from farfield.studies.placements.designs import FACTORS, Design
from farfield.studies.shared.variants import draw

SMALL = placements.Settings(
    seeds=2, tasks=("sine", "linear"), width=4, depths=(1, 2), widths=(4, 6), points=5, toy_epochs=2
)
KEYS = ("norm", "place", "before", "gain", "depth", "width")


def made(settings: placements.Settings, factors: dict[str, float]) -> placements.Result:
    """Scores in which each choice multiplies the error by a known factor, but for a little noise.

    ``factors`` names levels (``rms``, ``last``, ``after``, ``bare``, ``none``, and ``layers`` and
    ``units`` for each further rung).
    """
    generator = np.random.default_rng(3)
    rows = []
    for design in settings.designs():
        factor = 1.0
        for level in design.choice.split():
            factor *= factors.get(level, 1.0)
        factor *= factors.get("layers", 1.0) ** (design.depth - settings.depth)
        factor *= factors.get("units", 1.0) ** np.log2(design.width / settings.width)
        for task in settings.tasks:
            for seed in range(settings.seeds):
                error = factor * np.exp(0.001 * generator.normal())
                own = {key: getattr(design, key) for key in KEYS}
                far = 100.0 if design.norm == "none" else 10.0
                scored = {"error_in": 0.1, "r2_in": 0.9, "error_out": error, "r2_out": 1 - error**2}
                large = {"largest_out": 10.0, "largest_farther": far, "train_mse": 0.0}
                rows.append(
                    {"design": design.key, **own, "task": task, "seed": seed, **scored, **large}
                )
    return placements.Result(settings, pd.DataFrame(rows), {})


def test_designs_are_the_crossing_and_the_ladders_each_once() -> None:
    settings = placements.Settings()
    crossing = settings.crossing()
    assert len(crossing) == len(set(crossing)) == 2 * 3 * 2 * 2 + 1
    assert crossing[0] == Design("layer", "first", True, True, 2, 128)
    assert crossing[-1].norm == "none"
    designs = settings.designs()
    # 2 more at depth 1 (first is every), 3 at each of 4 depths and 5 widths.
    assert len(designs) == len({design.key for design in designs}) == 25 + 2 + 3 * 4 + 3 * 5
    for design in designs:
        network = draw(
            design.variant(), 3, design.hidden, 1, activation="relu", weight_var=2.0, bias_var=0.01,
            seed=0,
        )  # fmt: skip
        kinds = [type(layer) for layer in network]
        norms = [n for n in network if isinstance(n, (nn.LayerNorm, nn.RMSNorm))]
        many = {"none": 0, "first": 1, "last": 1, "every": design.depth}[design.place]
        assert len(norms) == many
        assert kinds.count(nn.ReLU) == design.depth
        for norm in norms:
            assert isinstance(norm, nn.LayerNorm) == (design.norm == "layer")
            assert norm.elementwise_affine == design.gain
            before = kinds[list(network).index(norm) - 1] is nn.Linear
            assert before == design.before


def test_each_factor_compares_designs_that_differ_in_it_alone() -> None:
    crossing = SMALL.crossing()
    counts = {"norm": 12, "before": 12, "gain": 12, "place": 8}
    for factor in FACTORS:
        pairs = factor.pairs(crossing)
        assert len(set(pairs)) == counts[factor.field]
        for one, other in pairs:
            assert {one, other} <= set(crossing)
            assert replace(one, **{factor.field: getattr(other, factor.field)}) == other
            assert getattr(one, factor.field) == factor.level != getattr(other, factor.field)


def test_ranks_are_those_of_scipy() -> None:
    result = made(replace(SMALL, seeds=3), {"rms": 1.0005, "none": 3.0})
    designs = SMALL.crossing()
    found = ranks(result.metrics, designs)
    errors = result.metrics.set_index(["design", "task", "seed"])["error_out"]
    for seed in range(3):
        by_task = [
            stats.rankdata([errors[design.key, task, seed] for design in designs])
            for task in SMALL.tasks
        ]
        np.testing.assert_allclose(found.loc[seed], np.mean(by_task, axis=0), rtol=1e-15)
    against = compared(found, designs[0])
    assert list(against) == [design.key for design in designs[1:]]
    other = designs[3].key
    difference = found[other] - found[designs[0].key]
    assert against[other].value.value == pytest.approx(difference.mean())


def test_known_factors_are_found() -> None:
    settings = replace(SMALL, seeds=5, depths=(1, 2, 3), widths=(2, 4, 8))
    factors = {"rms": 1.5, "every": 0.8, "none": 9.0, "layers": 1.1, "units": 0.9}
    result = made(settings, factors)
    designs = settings.crossing()
    for factor, expected in zip(FACTORS, (1.5, 1.0, 1.0, 1.0, 0.8), strict=True):
        found = ratio(result.metrics, "error_out", "sine", factor.pairs(designs))
        # Noise of 0.001 in 5 seeds and 8 pairs or more: intervals of some 0.0005.
        assert found.value == pytest.approx(expected, rel=2e-3)
        assert found.low < found.value < found.high
    told = effects(result.metrics, designs)
    assert told[FACTORS[0].label].verdict == "worse"
    assert told[FACTORS[-1].label].verdict == "better"
    assert told[FACTORS[2].label].verdict == "not told apart"
    assert advised(told, designs) == replace(designs[0], place="every")
    text = conclusion(result)
    assert text.startswith("Take a norm (LayerNorm every, before, gain): its error is nowhere")
    assert "is smaller on sine" in text
    assert "at most 1 times as large with LayerNorm every, before, gain, without a norm 10" in text
    assert "by a factor from 0.80 to 1.50" in text
    against, choice, best, sizes = findings(result)
    found = float(against.partition("norm: sine ")[2].partition(" ")[0])
    assert found == pytest.approx(0.8 / 9.0, rel=0.01)
    assert "Which norm: LayerNorm every, before, gain, shown to lower" in choice
    assert "Shown to raise it: RMSNorm instead of LayerNorm" in choice
    assert "LayerNorm every, " in best.partition("Of all 24 combinations ")[2]
    assert "Each further hidden layer changes the mean rank" in sizes
    deeper = trends(result.metrics, settings.depth_ladder(), [1.0, 2.0, 3.0])
    wider = trends(result.metrics, settings.width_ladder(), [0.0, 1.0, 2.0])
    assert deeper["first"].verdict == "worse"
    assert wider["none"].verdict == "better"


def test_the_conclusion_follows_the_numbers() -> None:
    settings = replace(SMALL, seeds=5)
    last = made(settings, {"last": 0.5, "bare": 0.9, "none": 0.1})
    assert "Which norm: LayerNorm last, before, no gain, shown" in findings(last)[1]
    grows = made(settings, {"none": 0.1})
    assert "is larger on sine" in conclusion(grows)
    assert "at the price of a larger error" in conclusion(grows)
    assert "Which norm: LayerNorm first, before, gain, since no other" in findings(grows)[1]
    mixed = made(settings, {"none": 0.1})
    on_sine = (mixed.metrics["task"] == "sine") & (mixed.metrics["norm"] == "none")
    mixed.metrics.loc[on_sine, "error_out"] = 5.0
    assert "and none where the truth is known to go on growing" in conclusion(mixed)
    alone = made(replace(SMALL, seeds=1), {"rms": 2.0})
    assert conclusion(alone) == "With a single seed nothing can be told from chance."
    assert findings(alone) == ()


def test_one_difference_among_many_by_chance_is_not_shown(rng: np.random.Generator) -> None:
    paired = {str(i): rng.normal(size=6) for i in range(40)}
    paired["low"] = np.array([1.0, 1.4, 0.6, 1.9, 0.2, 0.9])  # p = 0.01
    found = differences(paired)
    assert found["low"].verdict == "worse taken alone"
    assert differences({"low": paired["low"]})["low"].verdict == "worse"


def test_functions_are_asked_outside_their_interval() -> None:
    families, tables = tasks.load(replace(SMALL, interval=(-1.0, 2.0), far=4.0), None)
    assert tables == {}
    task = families[0].tasks[0]
    assert task.x.shape == (2, 5, 1)
    x, y = task.outside
    assert (x.min(), x.max()) == (-4.0, 4.0)
    assert not ((x > -1.0) & (x < 2.0)).any()
    torch.testing.assert_close(y, torch.sin(x[..., 0]))
    torch.testing.assert_close(task.inside[0][0, :, 0], torch.tensor([-0.625, 0.125, 0.875, 1.625]))


def shells(rows: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "sex": generator.choice(["M", "F", "I"], rows),
            "length": generator.uniform(0.1, 0.8, rows),
            "rings": generator.integers(1, 29, rows),
        }
    )


def test_tables_are_standardised_by_the_rows_that_train(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = shells(90)
    monkeypatch.setitem(tasks.TABLES, "abalone", (lambda folder: frame, abalone.Settings))
    settings = replace(SMALL, tasks=("abalone",), table_rows=40, batch_size=16)
    (family,), tables = tasks.load(settings, None)
    assert tables["table"] == "abalone"
    task = family.tasks[0]
    assert task.x.shape == (2, 32, 1)  # whole batches
    for values in (task.x, task.y):
        torch.testing.assert_close(values.mean(1), torch.zeros(2, 1), atol=1e-6, rtol=0.0)
        torch.testing.assert_close(values.std(1, correction=0), torch.ones(2, 1))
    held = split_by_group(prepare(frame, "rings", not_features=["sex"]), "sex", ["I"]).outside
    # Standardising is an increasing line, so the order of the held-out targets is kept.
    order = torch.from_numpy(frame["rings"].to_numpy()[held].astype(np.float32))
    assert stats.spearmanr(task.outside[1][1], order).statistic == pytest.approx(1.0)


def test_a_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (SMALL.crossing()[0], Design("rms", "last", False, False, 2, 4), *_without((4, 6)))
    monkeypatch.setattr(placements.Settings, "designs", lambda self: few)
    result = placements.run(SMALL, out=tmp_path)
    assert len(result.metrics) == len(few) * 2 * 2
    assert np.isfinite(result.metrics.select_dtypes("number")).all(axis=None)
    claim = result.claims()[0]
    assert claim.agrees, claim.ours  # random networks without norm grow, others do not
    (tmp_path / "checkpoints" / "toy-none-2x6.parquet").unlink()
    trained = []
    measure = placements.study._measure

    def counted(design: Design, *others: object) -> pd.DataFrame:
        trained.append(design.key)
        return measure(design, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(placements.study, "_measure", counted)
    again = placements.run(SMALL, out=tmp_path, resume=True)
    assert trained == ["none-2x6"]
    pd.testing.assert_frame_equal(again.metrics, result.metrics, check_exact=True)
    with pytest.raises(SettingsError, match="its points is 5"):
        placements.run(replace(SMALL, points=6), out=tmp_path, resume=True)


def _without(widths: tuple[int, ...]) -> list[Design]:
    return [Design("none", "none", depth=2, width=width) for width in widths]


def test_the_report_has_every_table_and_figure() -> None:
    story = made(SMALL, {"none": 5.0}).story()
    assert [len(table.frame) for table in story.tables] == [5, 5, 25, 25, 6, 6, 1]
    assert "Not the study's own settings: seeds 2 (default: 6)" in story.remarks[-1]
    panels = {"effects": 3, "choices": 1, "choices-by-task": 2, "depth": 3, "width": 3}
    assert [figure.name for figure in story.figures] == list(panels)
    for figure in story.figures:
        canvas = Canvas()
        figure.draw(canvas)
        assert len(canvas.axes) == panels[figure.name]
        assert all(axes.get_xlabel() for axes in canvas.axes)
        assert canvas.legends


def test_scores_are_those_of_the_definition() -> None:
    y = torch.tensor([[1.0, 3.0, 5.0]])
    task = tasks.Task(
        "t", torch.zeros(1, 2, 1), torch.tensor([[[0.0], [4.0]]]),
        (torch.zeros(1, 3, 1), y), (torch.zeros(1, 3, 1), 2 * y),
    )  # fmt: skip
    inside, outside = np.array([1.0, 3.0, 8.0]), np.array([6.0, 6.0, -6.0])
    found = placements.study._scores(task, 0, inside, outside, 10 * outside)
    assert found["error_in"] == pytest.approx((3.0 / (8.0 / 3.0)) ** 0.5)
    assert found["r2_in"] == pytest.approx(1.0 - found["error_in"] ** 2)
    assert found["error_out"] == pytest.approx(((16 + 256) / 32.0) ** 0.5)
    assert (found["largest_out"], found["largest_farther"]) == (3.0, 30.0)


def test_the_place_on_proteins_is_a_claim() -> None:
    settings = replace(SMALL, seeds=5, tasks=("protein",))
    same, other = (made(settings, own).claims()[1] for own in ({}, {"last": 2.0}))
    assert same.agrees
    assert not other.agrees
    assert "0.50" in same.published
    result = made(settings, {})
    noisy = result.metrics.assign(
        r2_out=result.metrics["r2_out"] + 5.0 * np.sin(np.arange(len(result.metrics)))
    )
    unsure = placements.Result(settings, noisy, {}).claims()[1]
    assert unsure.agrees is None
    assert "tell nothing" in unsure.why


def test_without_the_tables_it_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no (protein|abalone)\.csv"):
        placements.run(data=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tasks": ("cubic",)}, "no task 'cubic'"),
        ({"tasks": ()}, "tasks is empty"),
        ({"tasks": ("sine", "sine")}, "name each task once"),
        ({"depth": 1}, "depth is 1"),
        ({"depths": (2,)}, "depths is"),
        ({"widths": (8, 4)}, "widths is"),
        ({"far": 2.0}, "asked up to 2"),
        ({"table_rows": 1}, "table_rows is 1"),
        ({"toy_epochs": 0}, "epochs is 0"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **values)  # type: ignore[arg-type]
