"""Tiny models as they are exported."""

import torch

import pointpeft as pp
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import CONFIGS

POINTS = 64
NAMES = ("a", "b", "c", "d")
FITTED = {"svm": lambda: pp.SVMConfig(C=1.0), "knn": pp.KNNConfig, "lda": pp.LDAConfig}


def adapted(backbone, method, task="classification", **settings):
    """A model under a method, with values that a trained one could have."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = settle(tiny(task, backbone, num_points=POINTS, **settings))
        model = pp.get_peft_model(base, {**CONFIGS, **FITTED}[method]())
        tuner = model.adapter.tuner
        if method in FITTED:
            features = tuner.fitted_features(model.trunk.eval(), clouds(12, POINTS)).detach()
            tuner.fit(features, torch.arange(12) % 4)
        else:
            settle(model, 1)
    return model.eval()


def described(model, **transform):
    """With all that a program needs to know."""
    given = {"num_points": POINTS, **transform}
    model.adapter.describe(NAMES, pp.InputTransform(**given))
    model.adapter.temperature = 2.0
    return model
