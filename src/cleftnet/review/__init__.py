"""Reviews of synapses by people: candidates to look at, decisions about them, and what follows from the decisions."""

from cleftnet.review.applying import CORRECTED, ReviewSummary, apply_review
from cleftnet.review.decisions import VERDICTS, ReviewDecision
from cleftnet.review.making import make_review
from cleftnet.review.review_set import ReviewProgress, ReviewSet, open_review
from cleftnet.review.selection import KINDS, ReviewSettings

__all__ = [
    "CORRECTED",
    "KINDS",
    "VERDICTS",
    "ReviewDecision",
    "ReviewProgress",
    "ReviewSet",
    "ReviewSettings",
    "ReviewSummary",
    "apply_review",
    "make_review",
    "open_review",
]
