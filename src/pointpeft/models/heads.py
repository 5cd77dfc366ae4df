"""Task heads."""

from torch import nn

__all__ = ["classification_head"]


def classification_head(
    in_features: int, num_classes: int, hidden: int = 256, dropout: float = 0.5
) -> nn.Sequential:
    """The three-layer head shared by the published models: ``(B, in_features) -> (B, classes)``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )
