"""Adapters are measured in the batches of their run."""

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.peft import PeftModel
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.data.benchmarks import layouts
from tests.models.tiny import SIZES


@pytest.fixture
def batches():
    """Sizes of the batches that an adapted model is given in eval mode."""
    seen = []

    def note(module, inputs):
        if isinstance(module, PeftModel) and not module.training:
            seen.append(len(inputs[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.fixture
def run(tmp_path):
    folder = layouts.write_scanobjectnn(tmp_path / "data")
    layouts.write_h5(folder / "main_split/test_objectdataset.h5", np.arange(7, dtype=np.int32) % 2)
    given = {
        "protocol": "published",
        "checkpoint": "random",
        "model": "point_mae",
        "method": "point-peft",
        "data.source": str(tmp_path / "data"),
        "data.variant": "scanobjectnn_obj_bg",
        "data.num_points": 64,
        "trainer.epochs": 1,
        "trainer.batch_size": 2,
        **{f"backbone.{key}": value for key, value in SIZES.items()},
        "peft.num_prompts": 3,
    }
    config = load_config(FinetuneConfig, values=given)
    finetune(config, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_measured_again_in_its_own_batches(run, batches):
    data = {"source": str(run.parent / "data"), "variant": "scanobjectnn_obj_bg"}
    settings = pp.peft.read_adapter_config(run / "adapter")["method"]
    assert settings["reference_compat"], "of which the result hangs on the batch"
    evaluate_adapter(run, **data, output=run.parent / "again", protocol="published")
    assert batches[:2] == [4, 3]
    batches.clear()
    evaluate_adapter(run, **data, output=run.parent / "b", protocol="published", batch_size=6)
    assert batches[:2] == [6, 1]
    with pytest.raises(ConfigError, match="batch_size"):
        evaluate_adapter(run, **data, output=run.parent / "c", batch_size=0)
