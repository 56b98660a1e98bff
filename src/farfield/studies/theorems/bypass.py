"""Proposition 3.4: two large constant channels let a network with LayerNorm grow."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from farfield.networks import gaussian_init_, mlp
from farfield.regression import certify
from farfield.studies.shared.claims import Claim
from farfield.studies.theorems.measured import Notes, by_case
from farfield.training import Fleet, TrainingSettings, train

ITEM = "Proposition 3.4"
_RADII = [10.0**k for k in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)]
_STANDARD = "no LayerNorm"


def bypass(network: nn.Sequential, eps: float) -> nn.Sequential:
    """A network with LayerNorm that is nearly a given one without it, for x up to about 1 / eps.

    The first layer gets two units more, of values near 1 / eps and -1 / eps: the deviation that
    LayerNorm divides by is then nearly constant, and the next layer multiplies by it. Both also
    take half of the other units' sum away, so that the mean is 0.

    Args:
        network: Linear, ReLU, Linear and so on, in float64.
        eps: Small and above 0.

    Returns:
        Linear, LayerNorm, and the rest of the network.

    Source: Ziomek, Whittle and Osborne (NeurIPS 2025), proposition 3.4; this construction with
    an exact mean is derived here.

    Example:
        >>> import torch, farfield as ff
        >>> network = ff.mlp(1, [4, 4], 1).double()
        >>> x = torch.tensor([[3.0]], dtype=torch.float64)
        >>> changed = bypass(network, 1e-6)
        >>> bool((changed(x) - network(x)).abs() < 1e-6)
        True
    """
    first, second = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    hidden = [layer.out_features for layer in network if isinstance(layer, nn.Linear)]
    width = hidden[0] + 2
    changed = mlp(
        first.in_features, [width, *hidden[1:-1]], hidden[-1], norm="layer", norm_at="first"
    ).double()
    deviation = (2.0 / width) ** 0.5 / eps
    half = -0.5 * first.weight.sum(0, keepdim=True)
    ends = torch.tensor([1.0, -1.0], dtype=torch.float64) / eps - 0.5 * first.bias.sum()
    state = {
        "0.weight": torch.cat([first.weight, half, half]),
        "0.bias": torch.cat([first.bias, ends]),
        "1.weight": torch.ones(width, dtype=torch.float64),
        "1.bias": torch.zeros(width, dtype=torch.float64),
        "3.weight": torch.nn.functional.pad(deviation * second.weight, (0, 2)),
        "3.bias": second.bias,
    }
    for number in range(3, len(network)):
        for name, value in network[number].named_parameters():
            state[f"{number + 1}.{name}"] = value
    changed.load_state_dict({name: value.detach().clone() for name, value in state.items()})
    return changed.eval()


def measure(hidden: tuple[int, ...], epochs: int, channels: tuple[float, ...]) -> pd.DataFrame:
    """Train a network without LayerNorm, then bypass LayerNorm with channels of several sizes.

    Args:
        hidden: Its hidden widths, two or more.
        epochs: Steps of Adam.
        channels: Values of eps.

    Returns:
        The numbers: training loss, values far away, and what the certificate says.
    """
    notes = Notes(ITEM)
    x = torch.linspace(-3.0, 3.0, 100)[:, None]
    y = x.square()
    drawn = gaussian_init_(mlp(1, hidden, 1), generator=torch.Generator().manual_seed(0))
    fleet = Fleet([drawn])
    train(fleet, x[None], y[None], TrainingSettings(epochs, 1e-2))
    network = fleet.networks()[0]
    assert isinstance(network, nn.Sequential)
    network = network.double().eval()
    networks = {_STANDARD: network} | {f"eps = {eps:g}": bypass(network, eps) for eps in channels}
    rays = torch.tensor(_RADII, dtype=torch.float64)[:, None]
    for case, one in networks.items():
        with torch.no_grad():
            loss = float((one(x.double()) - y.double()).square().mean())
            values = one(rays)[:, 0].abs()
        cert = certify(one)
        notes.curve(case, _RADII, values.tolist())
        notes.add(
            case,
            loss=loss,
            bounded=cert.bounded is True,
            bound=cert.bound.largest,
            found=cert.worst_found.value,
            at_million=_at(rays, values, 1e6),
        )
    return notes.frame()


def _at(rays: Tensor, values: Tensor, radius: float) -> float:
    return float(values[(rays[:, 0] / radius - 1.0).abs() < 1e-9])


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Losses and certificates, as text.

    Args:
        frame: What :func:`measure` returned.

    Returns:
        A row for each network.
    """
    rows = by_case(frame)
    shown = pd.DataFrame(
        {
            "training loss": rows["loss"].map("{:.6g}".format),
            "|f(1e6)|": rows["at_million"].map("{:.4g}".format),
            "certificate": rows["bounded"].map(lambda yes: "bounded" if yes else "grows"),
            "proven bound": rows["bound"].map("{:.4g}".format).replace("inf", "none"),
            "largest found": rows["found"].map("{:.4g}".format),
        }
    )
    return shown.rename_axis("network")


def claims(frame: pd.DataFrame) -> tuple[Claim, ...]:
    """The proposition beside the numbers.

    Args:
        frame: What :func:`measure` returned.

    Returns:
        Claims.
    """
    rows = by_case(frame)
    standard, others = rows.loc[_STANDARD], rows.drop(index=_STANDARD)
    last = others.iloc[-1]
    close = abs(last["loss"] / standard["loss"] - 1.0)
    grown = others["bound"].iloc[-1] / others["bound"].iloc[0]
    return (
        Claim(
            ITEM,
            "Some minimisers of the training loss of a LayerNorm network are as large as one "
            "likes: training has to be part of any guarantee.",
            "unbounded minimisers",
            f"{others.index[-1]}: the loss of the network without LayerNorm to {close:.0e}, and "
            f"|f| up to {last['found']:.3g}",
            bool(close < 1e-3 and others["found"].is_monotonic_increasing),
            "Two constant channels of size 1 / eps fix what LayerNorm divides by, up to |x| of "
            "about 1 / eps.",
        ),
        Claim(
            f"{ITEM}, certificate",
            "Each of these networks is bounded all the same; no bound holds for all of them.",
            "(not in the paper)",
            f"certified bounded: {int(others['bounded'].sum())} of {len(others)}; the bound grows "
            f"from {others['bound'].iloc[0]:.3g} to {last['bound']:.3g}, {grown:.1g} times",
            bool(others["bounded"].all() and (others["found"] <= others["bound"]).all()),
            "ff.certify reads the weights as they are, so it tells a bypassed LayerNorm by the "
            "size of the bound.",
        ),
    )
