"""What theory says of random networks before any is drawn: dispersion of kernels, phases, scales.

- :func:`dispersion`: how much the tangent kernel of a ReLU network varies from draw to draw, in the
  limit of depth and width, or exactly;
- :func:`ntk_moments`: the same, exactly, for any widths, variances and slopes;
- :func:`phase`: where a network of some activation stands between order and chaos, and how deep
  signals get;
- :func:`critical_weight_var`: the edge of chaos.
"""

from farfield.theory.dispersion import dispersion
from farfield.theory.moments import NTKMoments, ntk_moments
from farfield.theory.phase import Phase, critical_weight_var, phase

__all__ = [
    "NTKMoments",
    "Phase",
    "critical_weight_var",
    "dispersion",
    "ntk_moments",
    "phase",
]
