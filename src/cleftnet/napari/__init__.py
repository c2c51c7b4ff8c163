"""Plugin for napari: readers, a writer for CREMI files, and widgets whose buttons call public functions of cleftnet.

`napari.yaml` lists them for napari. Needs the extra `napari`.
"""
