"""Trained models as files for other programs: torch.export, ONNX, and bioimage.io model packages (docs/export.md)."""

from cleftnet.exporting.forms import export

__all__ = ["export"]
