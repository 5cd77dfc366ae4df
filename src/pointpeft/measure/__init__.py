"""Measuring and applying trained models."""

from pointpeft.measure.embedding import embed
from pointpeft.measure.feature_index import Index
from pointpeft.measure.loaded_adapter import load_adapted
from pointpeft.measure.part_predictor import PartPrediction, PartPredictor
from pointpeft.measure.part_scores import SegmentationScores, score_parts
from pointpeft.measure.predictor import Prediction, Predictor
from pointpeft.measure.scores import Scores, classify, extract_features, score
from pointpeft.measure.svm import SvmResult, linear_svm

__all__ = [
    "Index",
    "PartPrediction",
    "PartPredictor",
    "Prediction",
    "Predictor",
    "Scores",
    "SegmentationScores",
    "SvmResult",
    "classify",
    "embed",
    "extract_features",
    "linear_svm",
    "load_adapted",
    "score",
    "score_parts",
]
