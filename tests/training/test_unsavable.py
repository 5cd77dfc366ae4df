"""What cannot be saved is not trained."""

from dataclasses import dataclass

import pytest

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.peft.linear import LinearConfig, LinearTuner


@dataclass(frozen=True)
class UnsavableConfig(LinearConfig):
    """Settings that no file can hold."""

    method = "unsavable"

    def to_dict(self):
        return {"method": self.method, "made_of": object()}


def test_a_method_that_cannot_be_saved_is_refused_before_it_is_trained(run_finetune, tmp_path):
    pp.register_method(UnsavableConfig, LinearTuner)
    with pytest.raises(ConfigError, match="unsavable"):
        run_finetune("method=unsavable")
    assert not (tmp_path / "run/metrics.csv").exists()


def test_layers_that_share_tensors_are_trained_and_saved(run_finetune, tmp_path):
    pytest.importorskip("peft")
    found = run_finetune("method=hugging-face", "peft.peft_type=RANDLORA", "peft.r=4",
                         "trainer.epochs=1")  # fmt: skip
    assert (
        pp.Predictor(tmp_path / "run").model.count_parameters()["trainable"]
        == (found["trainable_parameters"])
    )
