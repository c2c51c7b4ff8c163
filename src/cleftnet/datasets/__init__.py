"""Downloads, checks and submits the files of public datasets."""
