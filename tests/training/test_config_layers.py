"""A config builds on others; what is wrong with any of them is said with its name."""

import pytest

from pointpeft.errors import ConfigError
from pointpeft.training import FinetuneConfig, load_config


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_file_wins_over_those_it_builds_on_and_the_later_of_these(write):
    write("data/set.yaml", "data: {source: x, num_points: 64}\nseed: 1\nbackbone: {dim: 24}\n")
    write("base.yaml", "defaults: [data/set.yaml]\nseed: 2\nmodel: point_mae\n")
    write("other.yaml", "model: point_bert\n")
    path = write(
        "a/own.yaml",
        "defaults: [../base.yaml, ../other.yaml]\ndata: {num_points: 32}\nbackbone: {depth: 2}\n",
    )
    config = load_config(FinetuneConfig, [path], ["seed=3"])
    assert (config.data.source, config.data.num_points) == ("x", 32)
    assert (config.seed, config.model) == (3, "point_bert")
    assert config.backbone == {"dim": 24, "depth": 2}


def test_two_files_may_share_one(write):
    write("set.yaml", "seed: 1\n")
    write("a.yaml", "defaults: [set.yaml]\n")
    write("b.yaml", "defaults: [set.yaml]\n")
    path = write("own.yaml", "defaults: [a.yaml, b.yaml]\n")
    assert load_config(FinetuneConfig, [path]).seed == 1


def refused(path, *words):
    with pytest.raises(ConfigError) as error:
        load_config(FinetuneConfig, [path])
    for word in words:
        assert word in str(error.value)


def test_a_missing_file_is_named_with_the_one_that_wants_it(write):
    path = write("own.yaml", "defaults: [none.yaml]\n")
    refused(path, "none.yaml", "own.yaml")


@pytest.mark.parametrize("other", ["own.yaml", "a.yaml"])
def test_a_cycle_is_named_with_both_files(write, other):
    write("a.yaml", "defaults: [own.yaml]\n")
    path = write("own.yaml", f"defaults: [{other}]\n")
    refused(path, f"{other}: defaults", "own.yaml")


@pytest.mark.parametrize("value", ["base.yaml", "{a: b}", "[1]"])
def test_defaults_are_a_list_of_files(write, value):
    refused(write("own.yaml", f"defaults: {value}\n"), "own.yaml: defaults")


def test_an_unknown_key_is_named_with_the_file_that_has_it(write):
    write("set.yaml", "data: {sourc: x}\n")
    path = write("own.yaml", "defaults: [set.yaml]\n")
    refused(path, "set.yaml", "data.sourc;", "'data.source'")
