"""Calibrated error bars: a temperature fitted out of fold, then conformal intervals."""
