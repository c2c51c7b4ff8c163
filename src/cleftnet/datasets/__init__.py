"""CREMI data: volumes downloaded, files checked against the conventions of the challenge, and submissions written."""

from cleftnet.datasets.download import SAMPLES, Sample, download_cremi
from cleftnet.datasets.submission import CHALLENGE_SHAPE, write_submission
from cleftnet.datasets.validation import Finding, check_cremi, overall

__all__ = [
    "CHALLENGE_SHAPE",
    "SAMPLES",
    "Finding",
    "Sample",
    "check_cremi",
    "download_cremi",
    "overall",
    "write_submission",
]
