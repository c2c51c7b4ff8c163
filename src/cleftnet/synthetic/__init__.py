"""Generates a synthetic ssTEM volume with cleft labels from a seed, for the demo and the tests."""

from cleftnet.synthetic.volume import Synthetic, SyntheticSettings, synthetic_volume

__all__ = ["Synthetic", "SyntheticSettings", "synthetic_volume"]
