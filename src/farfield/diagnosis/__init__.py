"""Whether the theory of tangent kernels describes a network of finite width and depth."""

from farfield.diagnosis.draws import Draws
from farfield.diagnosis.examine import diagnose
from farfield.diagnosis.result import Agreement, Diagnosis, Dispersion, Gradients, Training

__all__ = [
    "Agreement",
    "Diagnosis",
    "Dispersion",
    "Draws",
    "Gradients",
    "Training",
    "diagnose",
]
