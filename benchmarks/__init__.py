"""Performance comparisons: each prints ratios against a named peer or a plain restatement, measured in one run."""
