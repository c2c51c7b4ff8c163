"""Reports: one self-contained HTML page about a run, a comparison or a demo.

`sources` collects `Contents` from a folder; `page` scores the predictions and renders charts, slices and mistakes. The package
is not called `report`, because `cleftnet.report` is the function.
"""

from cleftnet.reporting.contents import Contents, Entry, History, Scene, ScenePrediction
from cleftnet.reporting.page import PAGE, report, write_page

__all__ = ["PAGE", "Contents", "Entry", "History", "Scene", "ScenePrediction", "report", "write_page"]
