"""One trunk carries any number of adapters, and none copies what it does not train."""

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.models.layers import Block
from pointpeft.peft.hugging_face import LoRAConfig
from pointpeft.peft.knn import KNNTuner
from pointpeft.peft.linear import LinearTuner
from pointpeft.peft.mixed_batches import mixed_outputs
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import CONFIGS, SMALL, adapted, classifier, encoder
from tests.peft.test_methods import step

METHODS = {name: make for name, make in CONFIGS.items() if "published" not in name}


@pytest.fixture
def folders(tmp_path):
    """Adapters of every method, trained a little."""
    for name, make in METHODS.items():
        model = adapted(make(), with_bank=True)
        model.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in METHODS}


def storages(module):
    """Where the tensors of an encoder lie."""
    return {p.untyped_storage().data_ptr() for p in module.parameters()}


def test_adapters_on_one_trunk_copy_nothing_that_is_frozen(folders):
    trunk = encoder()
    for name, folder in folders.items():
        loaded = pp.load_adapter(trunk, folder)
        own = {
            p.untyped_storage().data_ptr()
            for p in loaded.model.backbone.parameters()
            if p.requires_grad
        }
        assert own.isdisjoint(storages(trunk)), name
        assert storages(loaded.model.backbone) - own <= storages(trunk), name
        beside = ("linear", "vpt", "adapter", "dapt", "pointgst", "idpt", "stag")
        assert bool(own) != name.startswith(beside), name


def test_memory_grows_by_what_an_adapter_trains_and_adds(folders):
    trunk = encoder()
    model = pp.load_adapter(trunk, folders["linear"])
    for number, name in enumerate(set(folders) - {"full"}):
        before = storages(model)
        pp.load_adapter(model, folders[name], f"number{number}")
        added = model.adapters[f"number{number}"]
        counts = added.count_parameters()
        new = [p for p in added.parameters() if p.untyped_storage().data_ptr() not in before]
        tokens = added.model.cls_token.numel() + added.model.cls_pos.numel()  # stored, if frozen
        assert 0 <= sum(p.numel() for p in new) - counts["trainable"] <= tokens, name


def test_adapters_of_one_model_are_switched_and_disabled(folders, points):
    trunk = encoder().eval()
    alone = {name: pp.load_adapter(encoder(), folder)(points) for name, folder in folders.items()}
    frozen = trunk(points).tokens
    names = {name: f"adapter-{number}" for number, name in enumerate(folders)}
    model = pp.load_adapter(trunk, folders["linear"], "first")
    for name, folder in folders.items():
        assert pp.load_adapter(model, folder, names[name]) is model
    assert torch.equal(model(points), alone["linear"])
    for name in (*folders, *reversed(folders)):
        model.set_adapter(names[name])
        assert torch.equal(model(points), alone[name]), name
        assert model.config.method == name.partition(",")[0]
        with model.disable_adapter():
            assert torch.equal(model(points).tokens, frozen), name
        assert torch.equal(model(points), alone[name]), name


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_disabled_adapter_leaves_the_model_bit_for_bit(make, points):
    plain = classifier().eval()
    expected = plain(points)
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    model = pp.get_peft_model(plain, make())
    for _ in range(2):
        step(model, points)
    assert not torch.equal(model.eval()(points), expected)
    for mode in (True, False):
        with model.train(mode).disable_adapter():
            assert torch.equal(model(points), expected)
    assert torch.equal(plain(points), expected)
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    assert all(p.requires_grad for p in plain.parameters())


def test_adapters_on_one_trunk_do_not_disturb_each_other(folders, points):
    trunk = encoder()
    features = trunk.eval()(points).tokens
    flags = {name: p.requires_grad for name, p in trunk.named_parameters()}
    alone = {name: pp.load_adapter(encoder(), folder)(points) for name, folder in folders.items()}
    together = {name: pp.load_adapter(trunk, folder) for name, folder in folders.items()}
    names = list(together)
    for place, name in enumerate(names):
        step(together[name], points)
        assert not torch.equal(together[name].eval()(points), alone[name]), name
        for other in names[place + 1 :]:
            assert torch.equal(together[other].eval()(points), alone[other]), (name, other)
    assert torch.equal(trunk(points).tokens, features)
    assert {name: p.requires_grad for name, p in trunk.named_parameters()} == flags


def test_a_change_of_precision_is_the_adapted_models_own(folders, points):
    trunk = encoder()
    model = pp.load_adapter(trunk, folders["stag"])
    pp.load_adapter(model, folders["idpt"], "second")
    model.double()
    assert model(points.double()).dtype == torch.float64
    assert next(trunk.parameters()).dtype == torch.float32
    of_encoder = {p.untyped_storage().data_ptr() for p in model.trunk.parameters()}
    for adapter in model.adapters.values():
        assert storages(adapter.model.backbone) == of_encoder


def test_adapters_have_classes_of_their_own(points):
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    model.add_adapter("two", pp.PointPeftConfig(**SMALL), num_classes=2)
    model.add_adapter("parts", pp.LinearConfig(), num_classes=1, num_parts=3)
    model.eval()
    assert model(points).shape == (3, 4)
    model.set_adapter("two")
    assert model(points).shape == (3, 2)
    model.set_adapter("parts")
    assert (model.task, model.sizes) == (
        "part_segmentation",
        {"num_classes": 1, "num_parts": 3},
    )
    parts = model(points, category=torch.zeros(3, dtype=torch.long))
    assert parts.shape == (3, points.shape[1], 3)
    model.delete_adapter("parts")
    assert model.active is None
    for use in (model.count_parameters, lambda: model(points)):
        with pytest.raises(ConfigError, match="set_adapter"):
            use()
    with pytest.raises(ConfigError, match="two"):
        model.set_adapter("tow")
    with pytest.raises(ConfigError, match="two"):
        model.set_adapter(["two"])


@pytest.mark.parametrize("name", ["", "a.b", "default", "keys", "training", 3, None])
def test_a_name_that_no_adapter_can_have_is_refused(name):
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    with pytest.raises(ConfigError, match="name"):
        model.add_adapter(name, pp.LinearConfig())


def test_an_encoder_has_no_head_for_an_adapter_without_sizes(folders):
    model = pp.load_adapter(encoder(), folders["linear"])
    with pytest.raises(ConfigError, match="num_classes"):
        model.add_adapter("other", pp.LinearConfig())


def test_a_damaged_adapter_leaves_the_model_as_it_was(folders, points):
    model = pp.load_adapter(encoder(), folders["linear"])
    expected = model(points)
    (folders["full"] / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        pp.load_adapter(model, folders["full"], "second")
    assert list(model.adapters) == ["default"]
    assert torch.equal(model(points), expected)


@pytest.mark.parametrize("config", [pp.FullConfig, pp.LinearConfig, pp.BitFitConfig, pp.NormConfig])
def test_a_method_that_adds_nothing_is_merged(config, points):
    model = pp.get_peft_model(classifier(), config())
    step(model, points)
    merged = model.eval().merge_adapter()
    expected = model(points)
    assert torch.equal(merged(points), expected)
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    assert torch.equal(model(points), expected)


def test_a_method_that_adds_layers_is_not_merged():
    model = pp.get_peft_model(classifier(), pp.PointPeftConfig(**SMALL))
    with pytest.raises(ConfigError, match="point-peft"):
        model.merge_adapter()


def test_disabling_holds_whatever_happens_inside(points):
    plain = classifier().eval()
    expected = plain(points)
    model = pp.get_peft_model(plain, pp.LinearConfig())
    with model.disable_adapter():
        model.add_adapter("other", pp.STAGConfig(), num_classes=2)
        model.set_adapter("other")
        assert torch.equal(model(points), expected)
    assert model.eval()(points).shape == (3, 2)


def test_the_active_adapter_alone_asks_for_gradients(points):
    model = pp.get_peft_model(classifier(), pp.FullConfig())
    model.add_adapter("head", pp.LinearConfig())
    counts = {name: each.count_parameters()["trainable"] for name, each in model.adapters.items()}
    for name in ("default", "head"):
        model.set_adapter(name)
        asked = {n for n, p in model.named_parameters() if p.requires_grad}
        assert asked
        assert all(n.startswith(f"adapters.{name}.") for n in asked)
        assert model.count_parameters()["trainable"] == counts[name]


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_an_adapter_of_a_model_of_other_precision_has_it_too(make, points):
    model = pp.get_peft_model(classifier(), pp.LinearConfig()).double()
    model.add_adapter("other", make())
    model.set_adapter("other")
    assert model.eval()(points.double()).dtype == torch.float64


def test_categories_are_checked(points):
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    model.add_adapter("parts", pp.LinearConfig(), num_classes=2, num_parts=3)
    with pytest.raises(ConfigError, match="category"):
        model(points, category=torch.zeros(3, dtype=torch.long))
    model.set_adapter("parts")
    for wrong in (None, torch.tensor([0, 1]), torch.tensor([0, 1, 2]), torch.tensor([0, -1, 1])):
        with pytest.raises(ConfigError, match="category"):
            model(points, category=wrong)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"config": "linear"}, "config"),
        ({"config": pp.LinearConfig}, "config"),
        ({"config": pp.LinearConfig(), "bank": "x"}, "bank"),
        ({"config": pp.LinearConfig(), "num_classes": 2.5}, "num_classes"),
        ({"config": pp.LinearConfig(), "num_classes": 2, "num_parts": "3"}, "num_parts"),
    ],
)
def test_wrong_arguments_are_refused_by_name(given, word):
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    with pytest.raises(ConfigError, match=word):
        model.add_adapter("other", **given)
    assert list(model.adapters) == ["default"]


@pytest.mark.parametrize(("count", "names"), [(0, []), (2, ["default"])])
def test_a_batch_has_clouds_and_a_name_for_each(count, names):
    model = pp.get_peft_model(classifier(), pp.LinearConfig()).eval()
    with pytest.raises(ConfigError, match="adapters"):
        model.forward_mixed(clouds(2)[:count], names)
    for no_batch in (clouds(1)[0], clouds(2).tolist()):
        with pytest.raises(DataError, match="points"):
            model.forward_mixed(no_batch, ["default"] * 2)


@pytest.mark.parametrize("network", ["point_mae", "point_m2ae"])
def test_a_batch_may_have_an_adapter_for_each_cloud(network):
    trunk = settle(tiny("features", network), 1)
    model = pp.PeftModel(trunk)
    configs = {
        "few": pp.LinearConfig(),
        "ppt": pp.PPTConfig(num_prompts=4),
        "many": pp.BitFitConfig(),
    }
    for number, (name, config) in enumerate(configs.items()):
        model.add_adapter(name, config, num_classes=number + 2)
    model.add_adapter("parts", pp.VPTDeepConfig(num_prompts=2), num_classes=2, num_parts=5)
    for name in model.adapters:
        model.set_adapter(name)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    names = ["many", "few", "parts", "many", "ppt"]
    points, category = clouds(5), torch.tensor([0, 0, 1, 0, 0])
    mixed = model.eval().forward_mixed(points, names, category)
    for cloud, number, name, logits in zip(points.split(1), category, names, mixed, strict=True):
        model.set_adapter(name)
        given = {"category": number.view(1)} if name == "parts" else {}
        torch.testing.assert_close(logits, model(cloud, **given)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("names", "word"), [(["a"], "adapters"), (["a", "b", "zzz"], "zzz")])
def test_a_mixed_batch_needs_a_known_name_for_each_cloud(names, word, points):
    model = pp.PeftModel(encoder()).eval()
    for name in ("a", "b"):
        model.add_adapter(name, pp.LinearConfig(), num_classes=2)
    with pytest.raises(ConfigError, match=word):
        model.eval().forward_mixed(points, names)
    with pytest.raises(ConfigError, match="eval"):
        model.train().forward_mixed(points, ["a", "b", "a"])


@pytest.fixture
def ran(monkeypatch):
    """By call of a block, how many clouds went through it."""
    plain, counts = Block.forward, []

    def forward(block, tokens, *rest):
        counts.append(len(tokens))
        return plain(block, tokens, *rest)

    monkeypatch.setattr(Block, "forward", forward)
    return counts


def alone(model, name, cloud, **given):
    model.set_adapter(name)
    return model(cloud, **given)[0]


def carry(base, configs):
    """A model with an adapter for each config, fitted where it is to be."""
    model = pp.PeftModel(base)
    for number, config in enumerate(configs):
        bank = None
        if config.method == "point-peft":
            bank = pp.MemoryBank.build(base.backbone, [clouds(6)])
        tuner = model.add_adapter(f"{number}", config, bank).tuner
        if config.fitted:
            features = tuner.fitted_features(model.trunk, clouds(6)).detach()
            tuner.fit(features, torch.arange(6) % 2, [str(n) for n in range(6)])
    return model.eval()


SVM = pp.SVMConfig(C=1.0)
STAG = pp.STAGConfig(width=8)  # on three blocks it leaves two as they are
LATE = {"r": 2, "target_modules": r"blocks\.[123]\.attn\.qkv"}
MIXED = [
    # Configs, calls of blocks, and clouds that go through them: two clouds have each adapter.
    ((pp.LinearConfig(), pp.LinearConfig(head="linear"), pp.LinearConfig(head="lda")), 3, 18),
    ((STAG, pp.STAGConfig(width=16, first_block=0)), 2 + 1 + 2, 12),
    ((STAG, pp.LinearConfig()), 3 + 1, 12),
    ((pp.STAGConfig(width=8, first_block=0), pp.LinearConfig()), 3 + 2, 12),
    ((SVM, pp.KNNConfig(), pp.PointPeftConfig(num_prompts=4)), 3, 18),
    ((SVM, pp.LDAConfig(blocks=1), pp.LDAConfig(blocks=2)), 3, 18),
    ((pp.LinearConfig(), pp.BitFitConfig()), 6, 12),
]


@pytest.mark.parametrize(("configs", "calls", "passed"), MIXED)
def test_what_adapters_leave_as_it_is_runs_once_for_a_mixed_batch(configs, calls, passed, ran):
    model = carry(settle(tiny("classification"), 1), configs)
    names = [f"{number}" for number in range(len(configs))] * 2
    points, ran[:] = clouds(len(names)), []
    with torch.no_grad():
        mixed = model.forward_mixed(points, names)
        assert (len(ran), sum(ran)) == (calls, passed)
        for cloud, name, logits in zip(points.split(1), names, mixed, strict=True):
            torch.testing.assert_close(logits, alone(model, name, cloud), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("configs", "calls", "passed"),
    [
        ((SVM, pp.KNNConfig(), pp.LDAConfig()), 3, 18),
        ((pp.PointPeftConfig(num_prompts=4), SVM), 3, 12),
        ((pp.PointPeftConfig(num_prompts=4, query_grouping={"num_groups": 4}), SVM), 3 + 3, 12),
        ((pp.LinearConfig(), pp.FullConfig()), 3 + 3 + 3, 12 + 6 + 6),
    ],
)
def test_the_look_at_near_shapes_is_shared_too(configs, calls, passed, ran):
    model = carry(settle(tiny("classification"), 1), configs)
    names = [f"{number}" for number in range(len(configs))] * 2
    points, ran[:] = clouds(len(names)), []
    with torch.no_grad():
        found = model.trunk.tokenize(points)
        made = mixed_outputs(model.trunk, model.adapters, found, names, compared=set(names))
        assert (len(ran), sum(ran)) == (calls, passed)
        plain = model.forward_mixed(points, names)
        torch.testing.assert_close(made.logits, plain, rtol=1e-4, atol=1e-5)
        for name, adapter in model.adapters.items():
            own = points[[each == name for each in names]]
            query = adapter.tuner.frozen_features(model.trunk, model.trunk.tokenize(own))
            torch.testing.assert_close(made.queries[name], query, rtol=1e-4, atol=1e-5)


def compare(model, points):
    """Queries and logits of an adapter's clouds in a mixed batch, and those that it has alone."""
    with torch.no_grad():
        found = model.trunk.tokenize(points)
        made = mixed_outputs(model.trunk, model.adapters, found, ["0"] * len(points), None, ["0"])
        torch.testing.assert_close(torch.stack(made.logits), model(points), rtol=1e-4, atol=1e-5)
        query = model.tuner.frozen_features(model.trunk, found)
        torch.testing.assert_close(made.queries["0"], query, rtol=1e-4, atol=1e-5)


def test_a_bank_of_another_encoder_is_asked_by_that_encoder():
    model = carry(settle(tiny("classification"), 1), [pp.PointPeftConfig(num_prompts=4)])
    other = settle(tiny("classification"), 2).backbone
    model.set_bank(pp.MemoryBank.build(other, [clouds(6)]), other)
    compare(model.eval(), clouds(4))


@pytest.mark.parametrize(
    ("config", "tuner", "name"),
    [
        (pp.KNNConfig(), KNNTuner, "fitted_features"),
        (pp.KNNConfig(), KNNTuner, "frozen_features"),
        (pp.LinearConfig(), LinearTuner, "frozen_features"),
    ],
)
def test_a_method_may_have_features_of_its_own(config, tuner, name, monkeypatch):
    monkeypatch.setattr(tuner, name, lambda self, trunk, x: self.features(trunk, x) ** 3)
    compare(carry(settle(tiny("classification"), 1), [config]), clouds(4))


@pytest.mark.parametrize(
    "configs", [(SVM, pp.LDAConfig()), (pp.PointPeftConfig(num_prompts=4),) * 2]
)
def test_a_shared_pass_is_exact_where_that_of_an_adapter_is(configs):
    """Rounded features may lie on the other side of a border, and find other neighbours."""
    model = carry(settle(tiny("classification"), 1), configs)
    points = clouds(4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = model.forward_mixed(points, ["0", "1"] * 2)
        for cloud, name, logits in zip(points.split(1), ["0", "1"] * 2, mixed, strict=True):
            torch.testing.assert_close(logits, alone(model, name, cloud), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "configs", "calls", "passed"),
    [
        ("point_mae", (pp.LinearConfig(), STAG, pp.IDPTConfig()), 3 + 1 + 1, 18),
        ("point_bert", (pp.LinearConfig(), STAG), 3 + 1, 12),
        ("point_m2ae", (pp.LinearConfig(), pp.IDPTConfig()), 4 + 1, 16),
        ("point_m2ae", (pp.IDPTConfig(prompt_block=2), pp.LinearConfig()), 4 + 2, 16),
        # Clouds of a batch go from scale to scale together, so this pass is made apart.
        ("point_m2ae", (pp.LinearConfig(), LoRAConfig(LATE)), 4 + 4, 16),
    ],
)
def test_adapters_that_find_parts_share_what_they_leave_as_it_is(
    network, configs, calls, passed, ran
):
    model = carry(settle(tiny("part_segmentation", network), 1), configs)
    names = [f"{number}" for number in range(len(configs))] * 2
    points, category = clouds(len(names)), torch.arange(len(names)) % 3
    with torch.no_grad():
        mixed = model.forward_mixed(points, names, category)
        assert (len(ran), sum(ran)) == (calls, passed)
        each = zip(points.split(1), category.split(1), names, mixed, strict=True)
        for cloud, number, name, logits in each:
            one = alone(model, name, cloud, category=number)
            torch.testing.assert_close(logits, one, rtol=1e-4, atol=1e-5)


def test_features_of_another_task_are_refused():
    model = pp.get_peft_model(tiny("part_segmentation"), pp.LinearConfig())
    points, category = clouds(2), torch.zeros(2).long()
    with pytest.raises(ConfigError, match="features"):
        model(points, category=category, features=torch.zeros(2, 48))
    known = model.tuner.constants(model.model, points)["features"]
    with pytest.raises(ConfigError, match="features"):
        pp.get_peft_model(classifier(), pp.LinearConfig())(points, features=known)


def test_class_tokens_tell_linear_adapters_apart():
    model = pp.PeftModel(encoder())
    for name in ("a", "b"):
        model.add_adapter(name, pp.LinearConfig(), num_classes=2)
    points = clouds(2)
    with torch.no_grad():
        mixed = model.eval().forward_mixed(points, ["a", "b"])
        for cloud, name, logits in zip(points.split(1), ("a", "b"), mixed, strict=True):
            model.set_adapter(name)
            torch.testing.assert_close(logits, model(cloud)[0], rtol=1e-4, atol=1e-5)


def test_what_is_no_model_of_ours_carries_no_adapters():
    with pytest.raises(ConfigError, match="`base`"):
        pp.PeftModel(torch.nn.Linear(2, 2))
