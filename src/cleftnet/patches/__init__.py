"""Training patches: raw with augmented labels, sampled at random and changed at random."""
