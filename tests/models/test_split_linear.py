"""A hook or an adapter on a layer has its effect, also where its weights are used in parts."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import pointpeft as pp
from pointpeft.models.dvae import FoldingDecoder
from pointpeft.models.layers import EdgeConv, split_linear
from pointpeft.models.tokenizer import PatchEmbed
from tests.models.tiny import clouds, tiny


class LowRank(nn.Module):
    """A layer with a low-rank adapter, which passes the layer's own weight on as libraries do."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = layer
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor:
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))

    def merged(self) -> nn.Linear:
        """One layer that computes the same."""
        layer = copy.deepcopy(self.base_layer)
        with torch.no_grad():
            layer.weight += self.up.weight @ self.down.weight
        return layer


def segmenter(name):
    return tiny("part_segmentation", name), (clouds(2), torch.tensor([0, 1]))


def encoder(name):
    return tiny(name=name), (clouds(2),)


USES = {  # a network, its input, and a layer in it
    "mini-PointNet": lambda: (PatchEmbed(8, (4, 6, 8)), (torch.rand(5, 7, 3),), "second_conv.0"),
    "EdgeConv": lambda: (
        EdgeConv(4, 8),
        (torch.rand(2, 5, 4), torch.rand(2, 6, 4), torch.randint(6, (2, 5, 3))),
        "linear",
    ),
    "folding": lambda: (FoldingDecoder(8, 16), (torch.rand(2, 3, 8),), "fold.0"),
    "Point-MAE": lambda: (*encoder("point_mae_small"), "tokenizer.embed.second_conv.0"),
    "Point-M2AE": lambda: (*encoder("point_m2ae_small"), "tokenizers.1.embed.second_conv.0"),
    "parts of Point-MAE": lambda: (*segmenter("point_mae_small"), "fc1"),
    "parts of Point-M2AE": lambda: (*segmenter("point_m2ae_small"), "fc1"),
    "parts of Point-BERT": lambda: (*segmenter("point_bert_small"), "graphs.0.across.linear"),
}


@pytest.fixture(params=USES)
def use(request):
    """A network in eval mode, its input, and the name of a layer in it."""
    network, given, name = USES[request.param]()
    for parameter in network.parameters():
        if parameter.ndim == 2:  # the first values of some encoders hide what a layer does
            nn.init.xavier_uniform_(parameter)
    given = [x.double() if x.is_floating_point() else x for x in given]
    return network.double().eval(), given, name


def flat(output) -> Tensor:
    """All numbers of an output."""
    parts = output if isinstance(output, tuple) else (output,)
    return torch.cat([part.flatten() for part in parts if isinstance(part, Tensor)])


def replace(network, name, layer):
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


def test_an_adapter_in_the_place_of_a_layer_has_its_effect(use):
    network, given, name = use
    plain = flat(network(*given))
    adapter = LowRank(network.get_submodule(name)).double()
    replace(network, name, adapter)
    adapted = flat(network(*given))
    replace(network, name, adapter.merged())
    assert (adapted - plain).abs().max() > 1e-6
    torch.testing.assert_close(adapted, flat(network(*given)))


def test_a_hook_sees_the_layer_and_may_change_it(use):
    network, given, name = use
    layer, seen = network.get_submodule(name), []
    plain = flat(network(*given))

    def look(_, inputs, output):
        seen.append((inputs[0].shape[-1], output.shape[-1]))

    handle = layer.register_forward_hook(look)
    torch.testing.assert_close(flat(network(*given)), plain)
    assert set(seen) == {(layer.in_features, layer.out_features)}
    handle.remove()
    factor = torch.linspace(1, 2, layer.out_features, dtype=torch.float64)
    with layer.register_forward_hook(lambda _, inputs, output: factor * output):
        scaled = flat(network(*given))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter *= factor.view(-1, *[1] * (parameter.ndim - 1))
    torch.testing.assert_close(scaled, flat(network(*given)))
    assert (scaled - plain).abs().max() > 1e-6


def test_gradients_reach_the_adapter(use):
    network, given, name = use
    adapter = LowRank(network.get_submodule(name)).double()
    replace(network, name, adapter)
    flat(network(*given)).square().sum().backward()
    assert adapter.down.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("make", "name"), [
    (lambda: (PatchEmbed(8, (4, 6, 8)), torch.rand(5, 7, 3)), "second_conv"),
    (lambda: (FoldingDecoder(8, 16), torch.rand(2, 3, 8)), "fold"),
])  # fmt: skip
def test_a_hook_on_the_layers_together_has_its_effect(make, name):
    network, given = make()
    network.eval()
    plain = flat(network(given))
    with network.get_submodule(name).register_forward_hook(lambda *args: 2 * args[-1]):
        assert not torch.allclose(flat(network(given)), plain)


def test_a_plain_layer_multiplies_what_is_common_once():
    layer = nn.Linear(40, 50)
    common, own = torch.rand(3, 1, 30), torch.rand(3, 100, 10)
    with FlopCounterMode(display=False) as in_parts:
        found = split_linear(layer, common, own)
    together = torch.cat([common.expand(-1, 100, -1), own], dim=-1)
    torch.testing.assert_close(found, layer(together))
    assert in_parts.get_total_flops() == 2 * 50 * (3 * 30 + 300 * 10)


def test_lora_on_an_encoder_of_the_package():
    """By the public names alone."""
    backbone = pp.create_model("point_mae_small").eval()
    points = torch.rand(1, 1024, 3)
    before = backbone.retrieval_features(points)
    convolution = backbone.tokenizer.embed.second_conv
    convolution[0] = LowRank(convolution[0])
    assert not torch.allclose(backbone.retrieval_features(points), before)
