"""Votes, episodes and the published protocol, as the command line shows them."""

from tests.cli.conftest import run


def test_episodes_are_summed_up(meshes, settings, tmp_path):
    result = run(
        "finetune", "--data", meshes, *settings, "--output", tmp_path / "few",
        "few_shot.way=2", "few_shot.shot=3", "few_shot.queries=1", "few_shot.folds=2",
    )  # fmt: skip
    assert result.code == 0, result.text
    assert "2-way 3-shot accuracy:" in result.text
    assert "over 2 folds" in result.text


def test_votes_and_protocol_are_named(meshes, settings, tmp_path):
    output = tmp_path / "run"
    result = run(
        "finetune", "--data", meshes, *settings, "--output", output, "votes=2", "protocol=published"
    )
    assert result.code == 0, result.text
    assert "selected on the test split" in (output / "log.txt").read_text()
    assert "best of 2 votes" in result.text
    result = run(
        "evaluate", "--adapter", output, "--data", meshes, "--votes", 2, "--output", tmp_path / "e"
    )
    assert "mean of 2" in result.text


def test_an_unknown_protocol_is_refused(meshes, settings, tmp_path):
    result = run(
        "finetune", "--data", meshes, *settings, "--output", tmp_path / "r", "protocol=own"
    )
    assert result.code == 1
    assert "honest, published" in result.text
