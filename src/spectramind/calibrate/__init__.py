"""From raw frames to light curves: the readable chain, its fused twin, and the store."""
