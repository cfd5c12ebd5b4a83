"""How good the spectra are: metrics, figures and the dashboard."""
