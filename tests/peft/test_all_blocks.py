"""The head on all blocks that begins as linear discriminant analysis."""

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.checkpoint_writer import save_pth
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure.analysis import model_outputs
from pointpeft.models.registry import build_segmenter
from pointpeft.peft.all_blocks import discriminant
from pointpeft.peft.hugging_face import LoRAConfig
from tests.models.tiny import clouds, tiny
from tests.peft.support import classifier, encoder

POINTS = clouds(24, seed=4)
LABELS = torch.arange(24) % 3


def model_with(config):
    return pp.get_peft_model(classifier(), config).eval()


def test_it_is_given_the_mean_and_the_maximum_of_the_patches_behind_every_block():
    model = model_with(pp.LinearConfig(head="lda"))
    classes, trunk = model.model, encoder().eval()
    stream = trunk.embed(trunk.tokenize(POINTS), {}).insert(classes.cls_token, classes.cls_pos)
    with torch.no_grad():
        behind = [each.tokens[:, 1:] for each in trunk.run(stream)]
    expected = torch.cat([part for t in behind for part in (t.mean(1), t.amax(1))], dim=1)
    np.testing.assert_allclose(model_outputs(model, POINTS).features, expected, atol=1e-5)


def test_it_begins_with_the_scores_of_the_rule():
    model = model_with(pp.LinearConfig(head="lda"))
    features = torch.from_numpy(model_outputs(model, POINTS).features)
    rule = discriminant(features, LABELS, 4)
    model.model.head.begin(rule, temperature=2.0)
    scores = ((features - rule.origin) @ rule.weight.T + rule.bias) / 2
    logits = model(POINTS).detach()
    torch.testing.assert_close(logits[:, :3], scores[:, :3], rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.argmax(1), LABELS)
    assert (logits[:, 3] < -1000).all()  # a class without a shape
    assert logits.isfinite().all()


def test_one_class_is_refused():
    with pytest.raises(DataError):
        discriminant(torch.randn(4, 3), torch.zeros(4, dtype=torch.long), 2)


def test_without_it_an_adapter_says_nothing_of_a_head():
    assert "head" not in pp.BitFitConfig().to_dict()
    for config in (pp.BitFitConfig(head="lda"), LoRAConfig({"r": 2}, head="lda")):
        again = type(config).from_dict(config.to_dict())
        assert again == config
        assert again.head == "lda"


@pytest.mark.parametrize(
    "act",
    [
        lambda _: pp.SVMConfig.from_dict({"head": "lda"}),
        lambda _: model_with(pp.BitFitConfig(head="all")),
        lambda _: pp.get_peft_model(segmenter(), pp.BitFitConfig(head="lda")),
        lambda _: model_with(pp.BitFitConfig(head="lda")).merge_adapter(),
        lambda path: save_pth(model_with(pp.FullConfig(head="lda")), path / "a.pth"),
    ],
)
def test_where_it_cannot_be_is_refused(act, tmp_path):
    with pytest.raises(ConfigError, match="head"):
        act(tmp_path)


def segmenter():
    return build_segmenter(tiny("features"), 3, 2)
