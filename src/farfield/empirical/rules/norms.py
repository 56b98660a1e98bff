"""Gains and biases of normalisation layers."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from farfield.empirical.factors import Factor
from farfield.empirical.rules.table import Case, rule, spread


@rule("NativeLayerNorm")
def layer_norm(case: Case) -> Factor | None:
    """``gain (x - mean) / deviation + bias`` over the last axes."""
    if case.position == 2:
        return spread(case)
    node = case.node
    return spread(case, (node._saved_input - node._saved_result1) * node._saved_result2)


@rule("FusedRmsNorm")
def rms_norm(case: Case) -> Factor | None:
    """``gain x / root mean square`` over the last axes."""
    if case.position != 1:
        return None
    return spread(case, case.node._saved_input * case.node._saved_result1)


@rule("NativeGroupNorm")
def group_norm(case: Case) -> Factor | None:
    """The same over groups of channels; one gain and bias for each channel."""
    node = case.node
    if case.position == 2:
        return spread(_channels(case))
    grouped = node._saved_input.reshape(node._saved_N, node._saved_group, -1)
    centred = grouped - node._saved_result1.unsqueeze(-1)
    standard = centred * node._saved_result2.unsqueeze(-1)
    return spread(_channels(case), standard.reshape(node._saved_input.shape))


@rule("NativeBatchNorm")
def batch_norm(case: Case) -> Factor | None:
    """``gain (x - running mean) / running deviation + bias``."""
    node = case.node
    if node._saved_training:
        return None
    if case.position == 2:
        return spread(_channels(case))
    places = (1, -1, *(1,) * (node._saved_input.ndim - 2))
    variance: Tensor = node._saved_running_var
    centred = node._saved_input - node._saved_running_mean.reshape(places)
    return spread(_channels(case), centred / (variance + node._saved_eps).sqrt().reshape(places))


def _channels(case: Case) -> Case:
    """A vector over the channels, which are the second axis."""
    return replace(case, shape=(*case.shape, *(1,) * (case.signal.ndim - 3)))
