"""Synthetic archives in the challenge's layout, with the truth of every effect beside them."""
