"""The memory bank: building it, retrieving from it, and reading published ones."""

import os

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.bank_files import read_bank
from pointpeft.compat.pretraining import published_features
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import state_hash
from tests.models.tiny import clouds, tiny
from tests.peft.support import encoder


@pytest.fixture
def bank():
    return pp.MemoryBank(F.normalize(torch.randn(24, 12), dim=0))


def batches(points, labels):
    for start in range(0, len(points), 5):
        part = slice(start, start + 5)
        ids = [f"item {i}" for i in range(len(points))][part]
        yield {"points": points[part], "label": labels[part], "id": ids}


def test_items_are_encoded_in_order_by_the_encoder_in_eval_mode():
    backbone, points, labels = encoder(), clouds(12), torch.arange(12) % 4
    bank = pp.MemoryBank.build(backbone.train(), batches(points, labels))
    features = F.normalize(backbone.eval().retrieval_features(points), dim=1)
    assert len(bank) == 12
    assert bank.features.dtype == torch.float16
    assert torch.equal(bank.features, features.T.half())
    torch.testing.assert_close(bank.features.float().norm(dim=0), torch.ones(12), atol=1e-3, rtol=0)
    assert torch.equal(bank.labels, labels)
    assert bank.ids == tuple(f"item {i}" for i in range(12))
    assert bank.encoder_hash == state_hash(backbone)


def test_a_published_bank_holds_what_published_queries_are_made_of():
    backbone, points = tiny("features", "point_m2ae", group_sizes=(8, 2, 2)), clouds(6)
    ours, published = (
        pp.MemoryBank.build(backbone, [points], features).features
        for features in (None, published_features)
    )
    queries = published_features(backbone.eval(), points)
    assert torch.equal(published, F.normalize(queries, dim=1).T.half())
    assert not torch.equal(published, ours)


@pytest.mark.parametrize("training", [False, True])
def test_the_encoder_is_left_as_it_was(training):
    backbone = encoder().train(training)
    before = state_hash(backbone)
    bank = pp.MemoryBank.build(backbone, [clouds(4)])
    assert backbone.training == training
    assert state_hash(backbone) == before
    assert not bank.features.requires_grad


def test_the_encoder_is_left_as_it_was_when_the_loader_fails():
    backbone = encoder().train()
    with pytest.raises(KeyError):
        pp.MemoryBank.build(backbone, [{"cloud": clouds(4)}])
    assert backbone.training


def test_batches_may_be_tensors_or_tuples():
    backbone, points, labels = encoder(), clouds(4), torch.tensor([3, 1, 2, 0])
    plain = pp.MemoryBank.build(backbone, [points])
    labelled = pp.MemoryBank.build(backbone, [(points, labels)])
    assert torch.equal(plain.features, labelled.features)
    assert plain.labels.tolist() == [-1] * 4
    assert labelled.labels.tolist() == [3, 1, 2, 0]
    assert plain.ids == ("0", "1", "2", "3")


def test_an_empty_loader_is_refused():
    with pytest.raises(ValueError, match="loader"):
        pp.MemoryBank.build(encoder(), [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"features": torch.zeros(24)}, r"\(channels, items\)"),
        ({"features": torch.zeros(24, 0)}, r"\(channels, items\)"),
        ({"labels": torch.zeros(3)}, "12 items.*3 labels"),
        ({"ids": ["a"]}, "12 items.*1 ids"),
    ],
)
def test_banks_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        pp.MemoryBank(**{"features": torch.zeros(24, 12), **arguments})


def test_retrieval_equals_a_loop_over_items(bank):
    query = torch.randn(3, 24)
    similarity, indices = bank.retrieve(query, 5)
    for q, values, found in zip(query, similarity, indices, strict=True):
        cosines = [float(q @ column / q.norm()) for column in bank.features.T]
        expected = sorted(range(12), key=lambda i: -cosines[i])[:5]
        assert found.tolist() == expected
        assert values.tolist() == pytest.approx([cosines[i] for i in expected], abs=1e-6)


def test_every_item_can_be_retrieved(bank):
    _, indices = bank.retrieve(torch.randn(1, 24), 12)
    assert sorted(indices[0].tolist()) == list(range(12))


def test_an_item_is_its_own_nearest_unless_it_is_left_out(bank):
    query = 3 * bank.features.T
    assert bank.retrieve(query, 1).indices[:, 0].tolist() == list(range(12))
    left_out = torch.arange(12)
    left_out[::2] = -1
    _, indices = bank.retrieve(query, 11, exclude=left_out)
    for item, found in enumerate(indices.tolist()):
        assert (item in found) == (item % 2 == 0)


def test_leaving_an_item_out_equals_a_bank_without_it(bank):
    query = torch.randn(1, 24)
    keep = [i for i in range(12) if i != 4]
    smaller = pp.MemoryBank(bank.features[:, keep])
    torch.testing.assert_close(
        bank.prompt(query, 6, exclude=torch.tensor([4])), smaller.prompt(query, 6)
    )


def test_a_prompt_is_the_query_the_weighted_mean_and_the_nearest(bank):
    query = 5 * torch.randn(3, 24)
    prompt = bank.prompt(query, 6)
    similarity, indices = bank.retrieve(query, 4)
    assert prompt.shape == (3, 6, 24)
    assert torch.equal(prompt[:, 0], query)  # not normalised
    for b in range(3):
        nearest = bank.features[:, indices[b]].T
        exponentials = similarity[b].exp()
        mean = sum(e * row for e, row in zip(exponentials, nearest, strict=True))
        torch.testing.assert_close(prompt[b, 1], mean / exponentials.sum())
        torch.testing.assert_close(prompt[b, 2:], nearest)


@pytest.mark.parametrize(("exclude", "usable"), [(None, 12), (torch.zeros(1).long(), 11)])
def test_more_items_than_there_are_cannot_be_retrieved(bank, exclude, usable):
    with pytest.raises(ConfigError, match=f"{usable}.*13.*{usable + 2}"):
        bank.retrieve(torch.randn(1, 24), 13, exclude)


def test_a_query_of_other_channels_is_refused(bank):
    with pytest.raises(ValueError, match=r"25.*24"):
        bank.retrieve(torch.randn(1, 25), 3)


def test_a_published_bank_is_imported_as_it_is(tmp_path):
    features = torch.randn(24, 7)
    torch.save(features, tmp_path / "bank.pt")
    bank = read_bank(tmp_path / "bank.pt")
    assert torch.equal(bank.features, features)
    assert bank.labels.tolist() == [-1] * 7
    assert bank.encoder_hash is None


@pytest.mark.parametrize(
    "content",
    [{"features": torch.zeros(2, 3)}, [torch.zeros(2, 3)], torch.zeros(5), torch.zeros(2, 3, 4)],
    ids=["mapping", "list", "vector", "volume"],
)
def test_files_with_other_content_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "bank.pt")
    with pytest.raises(CheckpointError, match=r"bank\.pt"):
        read_bank(tmp_path / "bank.pt")


def test_a_published_bank_without_items_is_refused(tmp_path):
    torch.save(torch.zeros(24, 0), tmp_path / "bank.pt")
    with pytest.raises(CheckpointError, match=r"bank\.pt"):
        read_bank(tmp_path / "bank.pt")


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_damaged_missing_and_dangerous_files_are_refused(tmp_path):
    path = tmp_path / "bank.pt"
    with pytest.raises(CheckpointError, match=r"bank\.pt"):
        read_bank(path)
    path.write_bytes(b"hello world")
    with pytest.raises(CheckpointError, match=r"bank\.pt"):
        read_bank(path)
    torch.save(Payload(tmp_path / "ran"), path)
    with pytest.raises(CheckpointError, match=r"bank\.pt"):
        read_bank(path)
    assert not (tmp_path / "ran").exists()


def test_prototypes_stand_for_clusters():
    torch.manual_seed(0)
    directions = F.normalize(torch.randn(3, 24), dim=1)
    places = torch.arange(30) % 3
    items = F.normalize(directions[places] + 0.01 * torch.randn(30, 24), dim=1)
    bank = pp.MemoryBank(items.T.half(), places + 5)
    bank.encoder_hash = "abc"
    small = bank.prototypes(3)
    assert small.features.dtype == torch.float16
    assert (len(small), small.encoder_hash) == (3, "abc")
    found = small.retrieve(directions, 1)
    assert (found.similarity > 0.99).all()
    assert small.labels[found.indices[:, 0]].tolist() == [5, 6, 7]
    assert bank.prototypes(30) is bank
