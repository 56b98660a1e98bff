"""Fig. 7 of "Just One Layer Norm Guarantees Stable Extrapolation": a decoder-only transformer.

Decoders with and without a LayerNorm after the embedding learn to go on with sequences a + b i on
their first numbers, and are asked far beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from farfield.errors import SettingsError
from farfield.growth import Certificate, certify_model
from farfield.networks import gaussian_init_
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.devices import resolve_device
from farfield.studies.shared.progress import Steps
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import check_scale
from farfield.studies.shared.workspace import Workspace
from farfield.studies.transformer import story
from farfield.studies.transformer.decoder import VARIANTS, Decoder, Next
from farfield.studies.transformer.story import EXAMPLES
from farfield.training import Fleet, TrainingSettings, train

QUICK = {"seeds": 2, "epochs": 1}
"""Settings of a first look."""


@dataclass(frozen=True)
class Settings:
    """Settings of the transformer study; the defaults are the paper's where it states them.

    Stated: two layers, four heads, d = 64, sequences a + b i with a and b from N(0, 1), trained on
    i = 1 to 30, tested to i = 100, five seeds. All else is not.

    Attributes:
        seeds: Networks of each kind, drawn from the seeds 0, 1, ..., each with sequences of its
            own.
        layers: Blocks of each network.
        heads: Heads of each block.
        width: Size d of the vectors.
        known: Sequences are known in training up to this i.
        far: Sequences are tested up to this i.
        context: How many numbers the network sees at a time; it is trained on all stretches of
            this length and tested on them, so that positions stay those of training, and the size
            of the numbers alone is new. Not stated in the paper.
        sequences: Training sequences of each network. Not stated.
        tests: Random test sequences. Not stated.
        epochs: Passes over all stretches. Not stated.
        batch_size: Stretches in a batch. Not stated.
        learning_rate: Adam's step size. Not stated.
        weight_var: Weights are N(0, weight_var / fan_in). Not stated for the transformer; with
            Kaiming's 2 the network without norm starts with losses of 10,000.
        bias_var: Biases are N(0, bias_var).
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
    """

    seeds: int = 5
    layers: int = 2
    heads: int = 4
    width: int = 64
    known: int = 30
    far: int = 100
    context: int = 20
    sequences: int = 320
    tests: int = 50
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_var: float = 1.0
    bias_var: float = 0.01
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_scale(self.seeds, (self.width,), "relu", self.weight_var, self.bias_var)
        for name in ("layers", "heads", "sequences", "tests", "context"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.width % self.heads:
            raise SettingsError(
                f"width is {self.width}; it must be a multiple of the {self.heads} heads."
            )
        if not self.context < self.known < self.far:
            raise SettingsError(
                f"context {self.context}, known {self.known} and far {self.far} must increase: "
                "a stretch of context numbers and the next one are known in training, and the "
                "tests go further."
            )
        self.training()

    def training(self) -> TrainingSettings:
        """How each network is trained."""
        return TrainingSettings(self.epochs, self.learning_rate, self.batch_size)


@dataclass(frozen=True, eq=False)
class Result:
    """What the transformer study measured.

    Attributes:
        settings: The settings.
        metrics: For each variant and seed: the loss of the last epoch, the mean absolute error
            over the random test sequences at the last known i and at the last tested one, and
            ``settling``, how much predictions still change over the last tenth of the way, in
            units of the sequences' own change (median over the random test sequences).
        predictions: For each variant, seed, test sequence and i: truth a + b i and its prediction
            from the numbers before.
        certificates: For each variant the certificate of seed 0's prediction after the last
            number, over all sequences.
        record: Settings, versions and machine.
    """

    settings: Settings
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    certificates: Mapping[str, Certificate]
    record: Mapping[str, object]

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return story.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


def run(
    settings: Settings | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Result:
    """Train decoders with and without a LayerNorm after the embedding, and ask them far ahead.

    Args:
        settings: The settings; the paper's by default, where it states them.
        out: A folder for settings, metrics and predictions; nothing is written by default.
        resume: Go on with an interrupted run in that folder.
        overwrite: Replace a run in that folder.
        progress: Whether to show a progress bar.

    Returns:
        Metrics, predictions and certificates.

    Raises:
        SettingsError: Settings that mean nothing, or other ones than those to resume.
        OutputError: The folder holds a run, or cannot be written to.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), Figure 7.
    """
    settings = settings if settings is not None else Settings()
    device = resolve_device(settings.device)
    workspace = Workspace.open(out, "transformer", settings, resume=resume, overwrite=overwrite)
    x, y = _training_stretches(settings)
    tests = _test_sequences(settings)
    stretches = tests.unfold(1, settings.context + 1, 1)  # (sequence, start, context + 1)
    metrics, predictions = pd.DataFrame(), pd.DataFrame()
    certificates: dict[str, Certificate] = {}
    # The fused kernels of attention have no batched form for many networks at once.
    with Steps(settings.epochs * len(VARIANTS), progress) as steps, sdpa_kernel(SDPBackend.MATH):
        for key, label in VARIANTS.items():
            fleet = Fleet([_draw(settings, key, s).to(device) for s in range(settings.seeds)])
            log = train(
                fleet,
                x,
                y,
                settings.training(),
                checkpoint=workspace.checkpoint(key),
                on_epoch=steps.stage(f"{label}: {fleet.size} networks", settings.epochs),
            )
            predicted = fleet.predict(stretches[..., :-1].flatten(0, 1))[..., -1]
            shaped = predicted.unflatten(1, stretches.shape[:2]).cpu().double().numpy()
            told = _predictions(settings, key, tests, shaped)
            losses = log.losses[-1].cpu().numpy()
            metrics = pd.concat([metrics, _metrics(settings, key, losses, told)])
            predictions = pd.concat([predictions, told])
            workspace.save(metrics, predictions)
            steps.stage(f"{label}: certificate", 0)
            network = Next(fleet.networks()[0]).cpu().eval()
            certificates[key] = certify_model(network, (settings.context,))
    workspace.finish()
    return Result(
        settings,
        metrics.reset_index(drop=True),
        predictions.reset_index(drop=True),
        certificates,
        workspace.record,
    )


def _draw(settings: Settings, variant: str, seed: int) -> torch.nn.Module:
    network = Decoder(
        settings.context, settings.width, settings.heads, settings.layers, variant != "standard"
    )
    generator = torch.Generator().manual_seed(seed)
    return gaussian_init_(network, settings.weight_var, settings.bias_var, generator)


def _training_stretches(settings: Settings) -> tuple[Tensor, Tensor]:
    """For each seed all stretches of its sequences, and the next number after each number."""
    i = torch.arange(1, settings.known + 1)
    parts = []
    for seed in range(settings.seeds):
        generator = torch.Generator().manual_seed(1_000_000 + seed)
        a, b = torch.randn(2, settings.sequences, 1, generator=generator)
        parts.append((a + b * i).unfold(1, settings.context + 1, 1).flatten(0, 1))
    stretches = torch.stack(parts)
    return stretches[..., :-1], stretches[..., 1:]


def _test_sequences(settings: Settings) -> Tensor:
    """The examples, then random sequences, from i = 1 to far; the same for all networks."""
    generator = torch.Generator().manual_seed(2_000_000)
    drawn = torch.randn(settings.tests, 2, generator=generator)
    a, b = torch.cat([torch.tensor(EXAMPLES), drawn]).T[..., None]
    sequences: Tensor = a + b * torch.arange(1, settings.far + 1)
    return sequences


def _predictions(
    settings: Settings, variant: str, tests: Tensor, predicted: np.ndarray
) -> pd.DataFrame:
    seeds, sequences, _ = predicted.shape
    i = np.arange(settings.context + 1, settings.far + 1)
    truth = tests[:, settings.context :].double().numpy()
    return pd.DataFrame(
        {
            "variant": variant,
            "seed": np.repeat(np.arange(seeds), sequences * len(i)),
            "sequence": np.tile(np.repeat(np.arange(sequences), len(i)), seeds),
            "i": np.tile(i, seeds * sequences),
            "truth": np.tile(truth.ravel(), seeds),
            "prediction": predicted.ravel(),
        }
    )


def _metrics(
    settings: Settings, variant: str, losses: np.ndarray, predictions: pd.DataFrame
) -> pd.DataFrame:
    drawn = predictions[predictions["sequence"] >= len(EXAMPLES)]
    errors = (drawn["prediction"] - drawn["truth"]).abs().groupby([drawn["seed"], drawn["i"]])
    by_i = errors.mean().unstack()
    before = settings.far - max(1, (settings.far - settings.known) // 10)
    ends = drawn.pivot(index=["seed", "sequence"], columns="i", values=["prediction", "truth"])
    change = {
        name: ends[name][settings.far] - ends[name][before] for name in ("prediction", "truth")
    }
    settling = (change["prediction"] / change["truth"]).groupby("seed").median()
    return pd.DataFrame(
        {
            "variant": variant,
            "seed": range(len(losses)),
            "train_mse": losses,
            "error_at_known": by_i[settings.known].to_numpy(),
            "error_at_far": by_i[settings.far].to_numpy(),
            "settling": settling.to_numpy(),
        }
    )
