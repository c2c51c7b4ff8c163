"""Volumes in and out: one address names an array, every format becomes the same lazy `Volume`."""
