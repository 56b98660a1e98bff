"""The networks of the ELLA study, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from farfield.errors import TrainingError
from farfield.studies.ella.tasks import Task
from farfield.studies.shared.variants import draw, variants
from farfield.studies.shared.workspace import Workspace
from farfield.training import Fleet, TrainingSettings, batch_rows, train

if TYPE_CHECKING:
    from farfield.studies.ella.study import Settings

_KERNEL = 5  # side of the convolutions, as in the paper's network for MNIST


def convolutional(
    height: int, width: int, channels: tuple[int, int], units: int, classes: int, seed: int
) -> nn.Sequential:
    """Two convolutions with pooling, a hidden layer, and a last one.

    Args:
        height: Of the images.
        width: Of the images.
        channels: Of the convolutions.
        units: Of the hidden layer, so that the last one is as small as in a residual network.
        classes: Number of outputs.
        seed: Of PyTorch's draw of the weights.

    Returns:
        The network, without BatchNorm, which curvatures in Kronecker factors do not know.
    """
    first, second = channels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, first, _KERNEL, padding=_KERNEL // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, _KERNEL, padding=_KERNEL // 2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), units),
            nn.ReLU(),
            nn.Linear(units, classes),
        )


def train_classifier(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[int], None],
) -> None:
    """Minimise the mean cross-entropy by Adam, in place.

    Args:
        network: The network.
        x: Images.
        y: Classes.
        settings: Epochs, batches, step size.
        seed: Of the batches.
        on_epoch: Called with the number of epochs done.

    Raises:
        TrainingError: A loss that is not finite.
    """
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), settings.image_learning_rate)
    for epoch in range(settings.image_epochs):
        for rows in batch_rows(seed, epoch, len(x), settings.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise TrainingError("The loss is not finite; lower the learning rate.")
        on_epoch(epoch + 1)
    network.eval()


def image_network(
    task: Task,
    settings: Settings,
    seed: int,
    workspace: Workspace,
    on_epoch: Callable[[int], None],
) -> nn.Module:
    """The trained network of a seed; a resumed run reads it.

    Args:
        task: The images.
        settings: The network and its training.
        seed: Of the network.
        workspace: Keeps it.
        on_epoch: Called with the number of epochs done.

    Returns:
        The network in eval mode.
    """
    height, width = task.train[0].shape[2:]
    network = convolutional(
        height, width, settings.channels, settings.image_units, task.outputs, seed
    )

    def compute() -> pd.DataFrame:
        train_classifier(network, *task.train, settings, seed, on_epoch)
        numbers = nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
        return pd.DataFrame({"parameter": numbers})

    kept = workspace.part(f"images-{seed}-network", compute)["parameter"].to_numpy(np.float32)
    nn.utils.vector_to_parameters(torch.from_numpy(kept.copy()), network.parameters())
    return network.eval()


def protein_network(features: int, norm_first: bool, settings: Settings, seed: int) -> nn.Module:
    """An MLP at initialisation.

    Args:
        features: Number of inputs.
        norm_first: Whether a LayerNorm follows the first layer.
        settings: The network.
        seed: Of its weights.

    Returns:
        The network.
    """
    return draw(
        variants("layer", len(settings.hidden))[int(norm_first)],
        features,
        settings.hidden,
        1,
        activation="relu",
        weight_var=2.0,
        bias_var=0.01,
        seed=seed,
    )


def protein_networks(
    tasks: list[Task],
    norm_first: bool,
    settings: Settings,
    workspace: Workspace,
    on_epoch: Callable[[int], None],
) -> list[nn.Module]:
    """The trained networks of some seeds, all at once.

    Args:
        tasks: The proteins of the seeds 0, 1, ...
        norm_first: Whether a LayerNorm follows the first layer.
        settings: The network and its training.
        workspace: Keeps the progress.
        on_epoch: Called with the number of epochs done.

    Returns:
        The networks in eval mode.
    """
    drawn = [
        protein_network(task.train[0].shape[1], norm_first, settings, seed)
        for seed, task in enumerate(tasks)
    ]
    fleet = Fleet(drawn)
    how = TrainingSettings(settings.protein_epochs, settings.learning_rate, settings.batch_size)
    x, y = (torch.stack([task.train[part] for task in tasks]) for part in (0, 1))
    kept = workspace.checkpoint("proteins-first" if norm_first else "proteins-standard")
    train(fleet, x, y, how, checkpoint=kept, on_epoch=on_epoch)
    return fleet.networks()
