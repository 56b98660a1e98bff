"""Dual activations: what an elementwise function does to a Gaussian law.

For (u, v) jointly Gaussian with mean zero, an activation phi has E[phi(u) phi(v)],
E[phi'(u) phi'(v)], E[u v phi'(u) phi'(v)] and E[phi(u)]: in closed form where there is one,
else by quadrature.
"""
