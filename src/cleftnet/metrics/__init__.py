"""Scores: over voxels, over whole clefts, and the alignment of the two volumes they compare."""
