"""Pages and pictures of results: one self-contained HTML file on a run, a comparison or a demo."""

from cleftnet.report.contents import Contents, Entry, History, Prediction, Scene
from cleftnet.report.page import write_page
from cleftnet.report.reporting import report

__all__ = [
    "Contents",
    "Entry",
    "History",
    "Prediction",
    "Scene",
    "report",
    "write_page",
]
