"""Heads on the features of a frozen backbone: in the groups of training, and in another one.

What Table 2 and Fig. 4 of "Just One Layer Norm Guarantees Stable Extrapolation" measure, for any
images with a group and a number to predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from farfield.errors import DataError, SettingsError
from farfield.growth import Certificate
from farfield.studies.heads import claims, fit, story
from farfield.studies.shared.claims import Claim
from farfield.studies.shared.story import Story
from farfield.studies.shared.variants import Variant, check_scale, variants
from farfield.studies.shared.workspace import Workspace
from farfield.training import TrainingSettings

FEWEST = 10


@dataclass(frozen=True)
class Settings:
    """Settings of heads; the defaults are the paper's where it states them.

    Attributes:
        hold_out: The groups that are out of domain.
        seeds: Heads of each kind, from the seeds 0, 1, ...; the paper has 250.
        train_fraction: Part of the training groups' images that train; the others test. The split
            is the same for all seeds. Not stated in the paper.
        hidden: Hidden widths.
        activation: The activation.
        epochs: Passes of Adam over the training images.
        batch_size: Images in a batch.
        learning_rate: Adam's step size, for heads without norm and with one at the first layer.
        learning_rate_late: Likewise for heads with a norm at the last or at every layer.
        standardise_inputs: Whether features are brought to mean 0 and standard deviation 1 on the
            training images. Not stated in the paper.
        standardise_target: Likewise for the target; predictions are turned back. Not stated.
        weight_var: Weights are N(0, weight_var / fan_in); 2 is Kaiming's normal draw.
        bias_var: Biases are N(0, bias_var).
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
    """

    hold_out: tuple[str, ...]
    seeds: int = 25
    train_fraction: float = 0.8
    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    learning_rate_late: float = 3e-3
    standardise_inputs: bool = False
    standardise_target: bool = True
    weight_var: float = 2.0
    bias_var: float = 0.01
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_scale(self.seeds, self.hidden, self.activation, self.weight_var, self.bias_var)
        if not self.hold_out:
            raise SettingsError("hold_out is empty; name at least one group that is out of domain.")
        if not 0.0 < self.train_fraction < 1.0:
            raise SettingsError(
                f"train_fraction is {self.train_fraction}; it must lie between 0 and 1."
            )
        for rate in (self.learning_rate, self.learning_rate_late):
            TrainingSettings(self.epochs, rate, self.batch_size)

    def compared(self) -> tuple[Variant, ...]:
        """The heads compared, in order."""
        return variants("layer", len(self.hidden))

    def training(self, variant: Variant) -> TrainingSettings:
        """How a head is trained.

        Args:
            variant: Where its norm stands.

        Returns:
            Epochs, step size and batch size.
        """
        late = variant.key in ("last", "every")
        rate = self.learning_rate_late if late else self.learning_rate
        return TrainingSettings(self.epochs, rate, self.batch_size)


@dataclass(frozen=True, eq=False)
class Bank:
    """Images as the backbone sees them.

    Attributes:
        features: A row for each image.
        target: What the heads predict.
        group: The group of each image.
    """

    features: Float[np.ndarray, "n d"]
    target: Float[np.ndarray, " n"]
    group: np.ndarray


@dataclass(frozen=True)
class Framing:
    """How a comparison of heads is presented.

    Attributes:
        title: Title of the report.
        target: What is predicted, with its unit.
        backbone: The frozen network.
        notes: What was found in the data, and how the images were given to the backbone.
        source: Papers and data to cite.
        published: Published R2, as text, by (head, domain).
        table: What the paper calls the table.
        figure: What it calls the figure.
    """

    title: str
    target: str
    backbone: str
    notes: tuple[str, ...]
    source: str
    published: Mapping[tuple[str, str], str] = field(default_factory=dict)
    table: str = claims.TABLE
    figure: str = claims.FIGURE


@dataclass(frozen=True, eq=False)
class Result:
    """What a comparison of heads measured.

    Attributes:
        settings: The settings.
        counts: Number of images that train, that test in domain, and out of domain.
        metrics: For each head, seed and domain ("in", "out"): number of images, R2, RMSE, MAE and
            the largest absolute prediction.
        predictions: For each head, seed and test image: domain, group, position, target,
            prediction and mean cosine similarity to the training features.
        certificates: For each head what is proven of the one of seed 0 over all features.
        record: Settings, data, versions and machine.
        framing: Title, sources and published numbers.
    """

    settings: Settings
    counts: tuple[int, int, int]
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    certificates: Mapping[str, Certificate]
    record: Mapping[str, object]
    framing: Framing

    def claims(self) -> tuple[Claim, ...]:
        """The paper's claims beside what was found."""
        return claims.claims(self)

    def story(self) -> Story:
        """The report's content."""
        return story.story(self)


@dataclass(frozen=True, eq=False)
class Rows:
    """The images of a split.

    Attributes:
        train: They train.
        test: The others of the same groups.
        outside: Those of the groups held out.
    """

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]
    outside: Int[np.ndarray, " n_out"]


def split(target: np.ndarray, group: np.ndarray, settings: Settings) -> Rows:
    """Draw the split, and see, before any long work, that there is something to learn.

    Args:
        target: What the heads predict.
        group: The group of each image.
        settings: The groups held out and the part that trains.

    Returns:
        The rows of each part.

    Raises:
        DataError: A group that does not occur, a part with fewer than 10 images, or a target
            that does not vary.
    """
    for name in settings.hold_out:
        if name not in set(group):
            raise DataError(
                f"There is no image of the group {name!r}; the groups are "
                f"{', '.join(sorted(set(group)))}."
            )
    held = np.isin(group, settings.hold_out)
    inside = np.random.default_rng(0).permutation(np.flatnonzero(~held))
    cut = round(settings.train_fraction * len(inside))
    rows = Rows(inside[:cut], inside[cut:], np.flatnonzero(held))
    for what, own in (("train", rows.train), ("test", rows.test), ("are held out", rows.outside)):
        if len(own) < FEWEST:
            raise DataError(f"Only {len(own)} images {what}; at least {FEWEST} are needed.")
    if np.ptp(target[rows.train]) == 0:
        raise DataError("The target is the same for all training images; nothing can be learned.")
    return rows


def run(
    bank: Bank,
    rows: Rows,
    settings: Settings,
    workspace: Workspace,
    framing: Framing,
    progress: bool,
) -> Result:
    """Train, score and certify all heads: what every study of heads ends with.

    Args:
        bank: Features, target and groups.
        rows: The split.
        settings: The settings.
        workspace: Keeps the progress.
        framing: How it is presented.
        progress: Whether to show a progress bar.

    Returns:
        The result.

    Raises:
        TrainingError: A loss or a prediction that is not finite.
    """
    metrics, predictions, certificates = fit.fit(bank, rows, settings, workspace, progress)
    workspace.finish()
    return Result(
        settings=settings,
        counts=(len(rows.train), len(rows.test), len(rows.outside)),
        metrics=metrics,
        predictions=predictions,
        certificates=certificates,
        record=workspace.record,
        framing=framing,
    )
