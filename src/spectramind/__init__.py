"""SpectraMind V50: raw Ariel detector frames in, transmission spectra with error bars out."""

__version__ = "0.1.0"
