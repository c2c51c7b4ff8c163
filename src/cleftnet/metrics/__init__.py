"""Scores of predictions: CREMI score, F1, AUC, and whole clefts."""
