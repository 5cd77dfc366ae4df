"""Models as files that other programs run: ONNX, ``torch.export``, and a page for the browser."""

from pointpeft.export.exporting import Exported, export

__all__ = ["Exported", "export"]
