"""Robust statistics: what a median says of the width of a Gaussian."""

# Standard deviation of a Gaussian over its median absolute deviation, 1 / 0.6744897501960817.
MAD_TO_SIGMA = 1.482602218505602
