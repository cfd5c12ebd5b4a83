"""The V50 network: Mamba over FGS1 and a graph network over the spectrum correct the fit."""
