"""Fits whose light curves lack FGS1, or more."""

from dataclasses import replace

import numpy as np

from spectramind.observation import TransitFit, VisitFit


def without(fit: TransitFit, dark: np.ndarray) -> TransitFit:
    """The fit without light curves of the dark wavelengths, FGS1 among them."""
    measured = np.where(dark, np.nan, fit.measured_sigma)
    visits = tuple(_without(visit, dark) for visit in fit.visits)
    return replace(fit, measured_sigma=measured, visits=visits)


def _without(visit: VisitFit, dark: np.ndarray) -> VisitFit:
    assert dark[0]
    return replace(
        visit,
        flux=np.where(dark, np.nan, visit.flux).astype(np.float32),
        electrons=np.where(dark, 0.0, visit.electrons).astype(np.float32),
        fgs1_time_h=np.zeros(0),
        fgs1_flux=np.zeros(0, np.float32),
        fgs1_model=np.zeros(0, np.float32),
        fgs1_centroid=np.zeros((0, 2), np.float32),
    )
