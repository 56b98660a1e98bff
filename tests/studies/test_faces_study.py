"""The faces study on a small generated folder of the same form, and a random backbone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import farfield as ff
from farfield.data import images
from farfield.data.faces import find_faces
from farfield.errors import DataError, MissingExtraError, SettingsError
from farfield.studies import faces, heads
from farfield.studies.heads import backbones, fit
from farfield.studies.shared.workspace import Workspace
from oracles import train_alone

SMALL = faces.Settings(seeds=2, epochs=3, hidden=(8,), image_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 small images whose brightness tells the age; a malformed name; one that is no image."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("utkface")
    for number in range(90):
        age, race = int(rng.integers(0, 100)), number % 5
        picture = rng.integers(0, 40, (20, 20, 3)) + 2 * age
        name = f"{age}_{number % 2}_{race}_2017{number:04d}.jpg.chip.jpg"
        Image.fromarray(picture.astype(np.uint8)).save(folder / name)
    shutil.copy(folder / name, folder / "61_1_20170109.jpg")
    (folder / "50_0_0_20179999.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet of transformers with random weights."""
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    folder = tmp_path_factory.mktemp("backbone")
    ResNetModel(config).save_pretrained(folder)
    return folder


def test_end_to_end(folder: Path, backbone: Path, tmp_path: Path) -> None:
    where = {"backbone": backbone, "cache": tmp_path / "cache"}
    result = faces.run(folder, SMALL, out=tmp_path / "run", **where)
    assert result.counts == (58, 14, 18)
    assert len(result.metrics) == 2 * 2 * 2
    assert set(result.predictions.query("domain == 'out'")["group"]) == {"Others"}
    assert "Others" not in set(result.predictions.query("domain == 'in'")["group"])
    notes = " ".join(result.story().remarks)
    assert "90 images: 18 White" in notes
    assert "1 (61_1_20170109.jpg)" in notes
    assert "cannot be read as JPEG: 1" in notes
    assert np.isfinite(result.predictions["prediction"]).all()
    claims = result.claims()
    assert [claim.of for claim in claims] == [
        "Table 2",
        "Table 2",
        "Fig. 4",
    ]  # no published numbers
    proven = result.story().tables[2].frame
    assert list(proven["verdict"]) == ["grows, degree 1", "bounded"]
    assert proven.loc["LayerNorm first", "proven"].startswith("|output| at most ")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert kept

    again = faces.run(folder, SMALL, out=tmp_path / "run", resume=True, **where)
    pd.testing.assert_frame_equal(result.predictions, again.predictions, check_exact=True)
    pd.testing.assert_frame_equal(result.metrics, again.metrics, check_exact=True)
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}

    # An archive holds the same images.
    archive = shutil.make_archive(str(tmp_path / "faces"), "gztar", folder)
    packed, found = (find_faces(data, tmp_path / "cache") for data in (archive, folder))
    columns = ["sha256", "age", "ethnicity"]
    pd.testing.assert_frame_equal(packed.frame[columns], found.frame[columns])


def test_heads_are_those_of_networks_trained_alone(rng: np.random.Generator) -> None:
    features = rng.normal(1.0, 1.0, (90, 5)).astype(np.float32)
    target = features @ rng.normal(size=5) + 30.0
    group = np.array(["a", "b", "c"])[np.arange(90) % 3]
    settings = heads.Settings(hold_out=("c",), seeds=2, epochs=3, hidden=(8, 8), batch_size=12)
    rows = heads.split(target, group, settings)
    assert sorted(np.concatenate([rows.train, rows.test, rows.outside])) == list(range(90))
    assert set(group[rows.outside]) == {"c"}
    bank = heads.Bank(features, target, group)
    workspace = Workspace.open(None, "heads", settings)
    _, told, certificates = fit.fit(bank, rows, settings, workspace, progress=False)
    mean, std = target[rows.train].mean(), target[rows.train].std()
    x = torch.from_numpy(features[rows.train])
    y = torch.from_numpy((target[rows.train] - mean) / std).float()[:, None]
    for key, norm, rate in (("standard", None, 1e-3), ("every", "layer", 3e-3)):
        network = ff.mlp(5, [8, 8], 1, norm=norm)
        ff.gaussian_init_(network, generator=torch.Generator().manual_seed(1))
        plan = [ff.training.batch_rows(1, epoch, len(x), 12) for epoch in range(3)]
        alone = train_alone(network, x, y, plan, rate)
        own = told.query(f"variant == {key!r} and seed == 1 and domain == 'out'")
        expected = (
            alone(torch.from_numpy(features[own["row"]])).detach().double().numpy()[:, 0] * std
            + mean
        )
        # float32, 12 steps of Adam.
        assert np.allclose(own["prediction"], expected, rtol=1e-4, atol=1e-3)
    # Certified is the head of seed 0, in units of the target: far features do not exceed its bound.
    assert certificates["standard"].bounded is False
    for key in ("first", "last", "every"):
        certificate = certificates[key]
        own = told.query(f"variant == {key!r} and seed == 0")["prediction"].abs()
        assert own.max() <= certificate.worst_found.value * 2.0 + 1.0
        assert own.max() <= certificate.bound.largest
        assert certificate.bound.largest > mean / 4.0  # not of the standardised target


def test_similarity_is_the_mean_cosine(rng: np.random.Generator) -> None:
    features = rng.normal(size=(8, 3)).astype(np.float32)
    features[5] = 0.0  # has no direction
    train = np.array([0, 2, 3])
    expected = [
        np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in features[train]])
        if a.any()
        else 0.0
        for a in features.astype(float)
    ]
    # Cosines of vectors in float32.
    assert np.allclose(fit.similarity(features, train), expected, atol=1e-6)


def test_a_backbone_that_cannot_be_used_is_told(backbone: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    cpu = torch.device("cpu")
    with pytest.raises(DataError, match=r"not a folder with a config\.json"):
        backbones.load_backbone(tmp_path, cpu)
    lacking = tmp_path / "lacking"
    shutil.copytree(backbone, lacking)
    weights = load_file(lacking / "model.safetensors")
    weights.pop(min(weights))
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="lacks 1 of its weights"):
        backbones.load_backbone(lacking, cpu)
    (lacking / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be read"):
        backbones.load_backbone(lacking, cpu)
    # A pickle is never read.
    (lacking / "model.safetensors").rename(lacking / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be read"):
        backbones.load_backbone(lacking, cpu)


def test_bad_input_leaves_no_run(folder: Path, backbone: Path, tmp_path: Path) -> None:
    where = {"backbone": backbone, "cache": tmp_path / "cache", "out": tmp_path / "run"}
    with pytest.raises(DataError, match="no image of the group 'Martian'"):
        faces.run(folder, replace(SMALL, hold_out=("Martian",)), **where)
    with pytest.raises(DataError, match="There is no"):
        faces.run(tmp_path / "nowhere", SMALL, **where)
    assert not (tmp_path / "run").exists()


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"farfield\[faces\]"):
        backbones.load_backbone(tmp_path, torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"farfield\[faces\]"):
        images.load_pillow()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hold_out": ()}, "hold_out is empty"),
        ({"train_fraction": 1.0}, r"train_fraction is 1\.0"),
        ({"image_size": 8}, "image_size is 8"),
        ({"learning_rate_late": 0.0}, "learning_rate is 0"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_settings_that_mean_nothing(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **values)  # type: ignore[arg-type]


def test_the_command(
    command: Callable[..., tuple[int, str, str]], folder: Path, backbone: Path, tmp_path: Path
) -> None:
    common = ("--backbone", backbone, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    code, out, _ = command(
        "reproduce", "faces", "--data", folder, *common, "--seeds", 2, "--epochs", 1
    )
    assert code == 0
    assert "Left out, because the name is not age_gender_race_date.jpg: 1" in " ".join(out.split())
    assert (tmp_path / "run" / "report.html").exists()
    other = ("--backbone", backbone, "--cache", tmp_path / "cache", "--out", tmp_path / "other")
    for name, option in (("faces", "--data"), ("paper", "--faces")):
        code, _, err = command("reproduce", name, option, tmp_path / "nowhere", *other)
        assert code == 2
        assert err.startswith("farfield: There is no")
        assert err.count("\n") == 1


def test_claims_of_table_2() -> None:
    """Published numbers agree with themselves, worse ones do not; without any nothing is run."""
    rows = []
    for (key, domain), published in faces.PUBLISHED.items():
        value = float(published.split(" ± ")[0])
        rows += [(key, domain, seed, value + off) for seed, off in enumerate((-0.01, 0.01) * 10)]
    metrics = pd.DataFrame(rows, columns=["variant", "domain", "seed", "r2"])
    similar = np.linspace(0.5, 1.0, 10)
    predictions = pd.concat(
        pd.DataFrame(
            {
                "variant": key,
                "domain": "out",
                "target": 0.0,
                "prediction": slope * (1.0 - similar),
                "similarity": similar,
            }
        )
        for key, slope in {"standard": 9.0, "first": 1.0, "last": 2.0, "every": 1.0}.items()
    )
    framing = heads.Framing("", "", "", (), "", faces.PUBLISHED)
    result = heads.Result(faces.Settings(), (1, 1, 1), metrics, predictions, {}, {}, framing)
    claims = result.claims()
    assert [claim.agrees for claim in claims] == [True] * 4
    assert [claim.item for claim in claims] == [claim.item for claim in heads.not_run("")]
    assert claims[3].ours.startswith("mean |error| in the fifth least like training / most like it")
    assert "4.25 / 0.25 (standard)" in claims[3].ours
    other = replace(result, metrics=metrics.assign(r2=-metrics["r2"]))
    assert [claim.agrees for claim in other.claims()] == [False, False, False, True]
    few = replace(result, metrics=metrics.query("seed < 2"))  # intervals of ± 0.13
    assert [claim.verdict for claim in few.claims()] == ["open", "yes", "yes", "yes"]
    one = replace(result, metrics=metrics.query("seed < 1"))
    assert [claim.verdict for claim in one.claims()] == ["open", "open", "open", "yes"]
    unpublished = replace(other, framing=replace(framing, published={}))
    assert [claim.agrees for claim in unpublished.claims()] == [False, False, True]
    better = replace(unpublished, metrics=metrics)
    assert [claim.agrees for claim in better.claims()] == [True] * 3
    assert {claim.verdict for claim in heads.not_run("")} == {"not run"}
