"""Trained models on disk: checkpoints with their card, and the released weights."""
