"""The selective scan of Mamba: the definition in float64 and the fused operation.

    h_t = exp(dt_t A) h_{t-1} + dt_t b_t x_t        h_0 = 0
    y_t = <c_t, h_t> + d x_t

Shapes: B sequences, L steps, D channels, N states.

Source: Gu and Dao 2023, arXiv 2312.00752, algorithm 2 with the simplified (Euler) input matrix.
"""

from spectramind.model.scan.op import selective_scan
from spectramind.model.scan.reference import scan_reference

__all__ = ["scan_reference", "selective_scan"]
