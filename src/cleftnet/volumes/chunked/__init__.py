"""Arrays in chunks, through tensorstore: Zarr, OME-Zarr, N5 and neuroglancer precomputed, here or behind a URL."""
