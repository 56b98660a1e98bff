"""Certificates of trained networks: what the output can be for every input.

Public names:
    certify_model: The certificate of a model.
    Certificate, Bound, Growth: What it holds.
    Effort: How long to search for large outputs.
    build_model, load_builder, load_weights: A model from a Python file, the function that makes it,
        and weights from a file that cannot run code.
    evaluator: A model as a function of a batch, in float64.
    stabilize: A copy of a model with LayerNorms inserted.
"""

from farfield.growth.certificate import Bound, Certificate, Growth, certify_model
from farfield.growth.escape import Escape
from farfield.growth.evaluate import evaluator
from farfield.growth.loading import build_model, load_builder, load_weights
from farfield.growth.search import Effort, Found
from farfield.growth.stabilize import stabilize

__all__ = [
    "Bound",
    "Certificate",
    "Effort",
    "Escape",
    "Found",
    "Growth",
    "build_model",
    "certify_model",
    "evaluator",
    "load_builder",
    "load_weights",
    "stabilize",
]
