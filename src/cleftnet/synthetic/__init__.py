"""A synthetic ssTEM volume with known answers: the demo's data and the tests' fixture, made in seconds from a seed."""

from cleftnet.synthetic.volume import Synthetic, SyntheticSettings, synthetic_volume

__all__ = ["Synthetic", "SyntheticSettings", "synthetic_volume"]
