"""Point-BERT: a transformer pre-trained by masked point modeling.

Yu et al., CVPR 2022, arXiv 2111.14819. The encoder is the plain transformer of Point-MAE with a
projection behind the mini-PointNet. Classification is here; pre-training is in
``point_bert_pretraining.py`` and its tokenizer in ``dvae.py``.
"""

from torch import nn

from pointpeft.models.point_mae import PointMAE, PointMAEClassifier

__all__ = ["PointBERTClassifier"]


class PointBERTClassifier(PointMAEClassifier):
    """Point-BERT with a class token and its two-layer head.

    Args:
        backbone: the encoder, with ``embed_dim``.
        num_classes: number of logits.
    """

    def __init__(self, backbone: PointMAE, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        nn.init.zeros_(self.cls_token)
        nn.init.normal_(self.cls_pos)

    def make_head(self, num_classes: int) -> nn.Module:
        """``(B, 2 C) -> (B, classes)``."""
        return nn.Sequential(
            nn.Linear(self.num_features, 256), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(256, num_classes),
        )  # fmt: skip
