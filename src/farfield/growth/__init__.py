"""Certificates of trained networks: what the output can be for every input.

Public names:
    certify_model: The certificate of a model.
    Certificate, Bound, Growth: What it holds.
    Effort: How long to search for large outputs.
    stabilize: A copy of a model with LayerNorms inserted.
"""

from farfield.growth.certificate import Bound, Certificate, Growth, certify_model
from farfield.growth.search import Effort, Escape, Found
from farfield.growth.stabilize import stabilize

__all__ = [
    "Bound",
    "Certificate",
    "Effort",
    "Escape",
    "Found",
    "Growth",
    "certify_model",
    "stabilize",
]
