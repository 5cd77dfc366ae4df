"""Files of whole networks are known as such, whoever wrote them."""

from dataclasses import asdict

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.writing import save_pth
from pointpeft.measure.pretraining_view import see
from pointpeft.training import PretrainConfig
from pointpeft.training.visualizing import load_pretrained
from tests.models.tiny import clouds, settle, tiny

NETWORKS = ("point_mae", "pcp_mae", "point_bert", "point_m2ae", "i2p_mae")


@pytest.mark.parametrize("write", [save_pth, pp.save_model], ids=["pth", "safetensors"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_of_a_whole_network_is_shown_as_the_network_is(name, write, tmp_path):
    torch.manual_seed(0)
    model = settle(tiny("pretraining", name)).eval()
    path = tmp_path / f"whole.{'pth' if write is save_pth else 'safetensors'}"
    write(model, path)
    config = PretrainConfig(
        model=name,
        checkpoint=str(path),
        backbone=dict(model.backbone.spec.config),
        pretraining=asdict(model.pretraining_config),
    )
    loaded, trained, origin = load_pretrained(config)
    assert path.name in origin
    given = see(model, clouds(1)[0], set(model.state_dict()))
    shown = see(loaded, clouds(1)[0], trained)
    assert [panel.line for panel in shown.panels] == [panel.line for panel in given.panels]
    for one, other in zip(shown.panels, given.panels, strict=True):
        torch.testing.assert_close(one.points, other.points)
