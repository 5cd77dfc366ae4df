"""Measuring and applying trained models."""

from pointpeft.evaluation.classification import Scores, classify, extract_features, score
from pointpeft.evaluation.part_predictor import PartPrediction, PartPredictor
from pointpeft.evaluation.predictor import Prediction, Predictor, load_adapted
from pointpeft.evaluation.segmentation import SegmentationScores, score_parts
from pointpeft.evaluation.svm import SvmResult, linear_svm

__all__ = [
    "PartPrediction",
    "PartPredictor",
    "Prediction",
    "Predictor",
    "Scores",
    "SegmentationScores",
    "SvmResult",
    "classify",
    "extract_features",
    "linear_svm",
    "load_adapted",
    "score",
    "score_parts",
]
