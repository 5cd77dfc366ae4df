import pytest
import torch

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.models.objective import InstanceContrast


def test_it_is_the_cross_entropy_of_the_partner_among_all_others():
    contrast = InstanceContrast(6, temperature=0.3, width=5).eval()
    features = torch.randn(8, 6)
    z = contrast.projection(features)
    z = z / z.norm(dim=1, keepdim=True)
    terms = []
    for i in range(8):
        partner = (i + 4) % 8
        others = [float(z[i] @ z[k]) / 0.3 for k in range(8) if k != i]
        terms.append(torch.tensor(others).logsumexp(0) - float(z[i] @ z[partner]) / 0.3)
    torch.testing.assert_close(contrast(features), torch.stack(terms).mean())


def test_under_autocast_only_the_projection_is_rounded():
    contrast = InstanceContrast(6, temperature=0.1).eval()
    features = torch.randn(32, 6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z = contrast.projection(features)
        rough = contrast(features)
    contrast.projection = torch.nn.Identity()
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, contrast(z.float()))


def test_training_brings_views_of_one_cloud_together():
    torch.manual_seed(0)
    contrast = InstanceContrast(8)
    first = torch.randn(16, 8)
    features = torch.cat([first, first + 0.1 * torch.randn(16, 8)])
    optimizer = torch.optim.Adam(contrast.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = contrast(features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_is_reconstruction_plus_weighted_contrast():
    small = {"num_groups": 8, "group_size": 8, "dim": 24, "depth": 1, "num_heads": 2}
    make = {"task": "pretraining", "decoder_num_heads": 2, "patch_widths": (8, 8, 8), **small}
    model = pp.create_model("point_mae_small", contrast=0.5, **make).eval()
    assert model.copies == 2
    points, mask = torch.rand(4, 64, 3), (torch.arange(8) < 5).expand(4, -1)
    losses = model.losses(points, mask)
    total = losses["reconstruction"] + 0.5 * losses["contrast"]
    torch.testing.assert_close(model(points, mask), total)
    plain = pp.create_model("point_mae_small", **make)
    assert plain.copies == 1
    assert set(plain.losses(points, mask)) == {"reconstruction"}


@pytest.mark.parametrize("setting", [{"contrast": -1.0}, {"temperature": 0.0}])
def test_impossible_settings(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        pp.create_model("point_mae_small", task="pretraining", **setting)
