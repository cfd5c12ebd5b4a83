"""Folds, features and the training of the V50 ensemble members."""
