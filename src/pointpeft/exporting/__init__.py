"""Models as files that other programs run: ONNX, ``torch.export``, and a page for the browser."""

from pointpeft.exporting.writing import PRECISIONS, Exported, export

__all__ = ["PRECISIONS", "Exported", "export"]
