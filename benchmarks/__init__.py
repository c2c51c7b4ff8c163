"""Performance claims, each as a ratio against a named peer or a plain restatement, measured in one run."""
