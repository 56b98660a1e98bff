"""LayerNorms inserted into a network that has none."""

from __future__ import annotations

import copy
import warnings

from torch import nn

from farfield.errors import SettingsError, UntrainedWarning
from farfield.networks import NORMS, NormAt, layers_named


def stabilize(model: nn.Module, where: NormAt = "first") -> nn.Module:
    """A copy of a model with LayerNorm behind its hidden linear layers.

    ``Linear -> activation`` becomes ``Linear -> LayerNorm -> activation``. In ``nn.Sequential``
    the norm is a module of its own behind the layer, so that later modules get higher numbers;
    elsewhere the layer ``name`` becomes ``nn.Sequential(layer, norm)``, so that its parameters
    are called ``name.0.weight``. The last linear layer is the output and gets none.

    **The copy must be trained**, or trained further: it has the old weights, but computes another
    function. What it gains at once is the certificate: its output is bounded as long as every way
    from input to output passes a norm, which :func:`farfield.certify` checks.

    Args:
        model: A model with at least two ``nn.Linear`` layers, used in the order in which they
            stand in ``model.named_modules()``. It is not changed.
        where: Behind which hidden linear layers: ``"first"``, ``"last"``, ``"every"`` or indices,
            as ``norm_at`` of :func:`farfield.mlp`.

    Returns:
        The copy, in training mode. Its norms have the dtype and device of the layers.

    Raises:
        SettingsError: An unknown place, or fewer than two linear layers.

    Warns:
        UntrainedWarning: Always: the copy must be trained. It is silenced by
            ``warnings.simplefilter("ignore", ff.errors.UntrainedWarning)``.

    Source: Ziomek, Whittle and Osborne, "Just One Layer Norm Guarantees Stable Extrapolation"
    (NeurIPS 2025), section 4: Linear, then LayerNorm, then the activation.

    Example:
        >>> import warnings, farfield as ff
        >>> warnings.simplefilter("ignore", ff.errors.UntrainedWarning)  # it will be trained
        >>> ff.stabilize(ff.mlp(9, [128, 128], 1))
        Sequential(
          (0): Linear(in_features=9, out_features=128, bias=True)
          (1): LayerNorm((128,), eps=1e-05, elementwise_affine=True, bias=True)
          (2): ReLU()
          (3): Linear(in_features=128, out_features=128, bias=True)
          (4): ReLU()
          (5): Linear(in_features=128, out_features=1, bias=True)
        )
    """
    changed = copy.deepcopy(model)
    hidden = [name for name, module in changed.named_modules() if type(module) is nn.Linear][:-1]
    if not hidden:
        raise SettingsError(
            "stabilize needs at least two torch.nn.Linear layers, a hidden one and the output; "
            "put the norm into other models by hand, behind the first layer."
        )
    for index in sorted(layers_named(where, len(hidden), "where"), reverse=True):
        _insert(changed, hidden[index])  # from the back, so that the numbers before stay
    warnings.warn(
        "The copy has the weights of the model but computes another function: train it before "
        "its outputs are used.",
        UntrainedWarning,
        stacklevel=2,
    )
    return changed.train()


def _insert(model: nn.Module, name: str) -> None:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    norm = NORMS["layer"](layer.out_features, True).to(layer.weight.device, layer.weight.dtype)
    path, _, own = name.rpartition(".")
    parent = model.get_submodule(path)
    if type(parent) is nn.Sequential and own.isdigit():
        parent.insert(int(own) + 1, norm)
    else:
        setattr(parent, own, nn.Sequential(layer, norm))
