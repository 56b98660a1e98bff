"""Images with their channels last in memory, where PyTorch's passes take less time.

What PyTorch computes does not depend on where numbers stand in memory, except for ``as_strided``,
for views that are refused, and for code of others. So a model is understood a second time with
images of this form, and all gradients by the rules are compared with those that autograd finds for
images as they come.

No gradient with respect to the weight of a convolution is ever taken from such a graph: for some
numbers of channels PyTorch 2.13 then writes beyond its memory (a convolution of three channels to
three, 3 x 3, in float32 on a CPU, ends the process).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from farfield.empirical.block import Plan
from farfield.empirical.factors import size_of
from farfield.empirical.forward import Forward
from farfield.empirical.inputs import Inputs, count, is_image, tensors_of
from farfield.empirical.plan import learn
from farfield.errors import FarfieldError


def learn_with_channels_last(
    forward: Forward, parameters: Mapping[str, Tensor], inputs: Inputs, plan: Plan
) -> Plan | None:
    """Find out how a model uses its parameters if its images have their channels last in memory.

    Args:
        forward: The model.
        parameters: The parameters that count.
        inputs: Samples of the kind that is to be understood.
        plan: What is known of the model with images as they come.

    Returns:
        The plan for such graphs; ``None`` if there is no gain, or if anything is different then.
    """
    images = [tensor for tensor in tensors_of(inputs) if is_image(tensor)]
    if not (images and plan.convolves and plan.fast):
        return None
    try:
        found = learn(replace(forward, channels_last=True), parameters, inputs)
    except (RuntimeError, FarfieldError):  # such as views that want the channels first
        return None
    if found.slow.keys() != plan.slow.keys():
        return None
    copies = sum(map(size_of, images)) / count(inputs)
    return replace(found, graph_bytes=found.graph_bytes + copies)
