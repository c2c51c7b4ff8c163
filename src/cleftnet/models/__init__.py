"""Trained models: checkpoints with a model card, and the released weights that come with the package."""
