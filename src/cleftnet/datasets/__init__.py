"""Public data: CREMI and vnc-l3 downloaded, CREMI files checked against the rules of the challenge, submissions written."""

from cleftnet.datasets.download import SAMPLES, Sample, download_cremi
from cleftnet.datasets.submission import CHALLENGE_SHAPE, write_submission
from cleftnet.datasets.validation import Finding, check_cremi, overall
from cleftnet.datasets.vnc_l3 import download_vnc_l3

__all__ = [
    "CHALLENGE_SHAPE",
    "SAMPLES",
    "Finding",
    "Sample",
    "check_cremi",
    "download_cremi",
    "download_vnc_l3",
    "overall",
    "write_submission",
]
