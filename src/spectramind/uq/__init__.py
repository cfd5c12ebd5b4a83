"""Error bars that hold: one temperature out of fold, then conformal intervals."""
