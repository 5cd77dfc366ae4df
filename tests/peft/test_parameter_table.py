"""The table of trainable parameters in the documentation, counted anew."""

import copy
import re
from pathlib import Path

import pytest
import torch

import pointpeft as pp
from pointpeft.peft import config_class, list_methods

DOC = Path(__file__).resolve().parents[2] / "docs" / "point-peft.md"
METHODS = (
    pp.LinearConfig(),
    pp.FullConfig(),
    pp.PointPeftConfig(),
    pp.PointPeftConfig(reference_compat=True),
)


@pytest.mark.parametrize("name", ["point_bert", "point_mae", "pcp_mae", "point_m2ae", "i2p_mae"])
def test_documented_counts_are_those_of_the_models(name):
    (row,) = [
        line
        for line in DOC.read_text().splitlines()
        if line.startswith("| `") and f"`{name}`" in line
    ]
    documented = re.findall(r"([\d,]+) / ([\d,]+)", row)
    model = pp.create_model(name, preset="scanobjectnn", num_classes=15)
    bank = pp.MemoryBank(torch.zeros(model.backbone.num_features, 20))
    for config, texts in zip(METHODS, documented, strict=True):
        adapted = pp.get_peft_model(
            copy.deepcopy(model), config, bank if config.uses_bank else None
        )
        counts = adapted.count_parameters()
        expected = tuple(int(text.replace(",", "")) for text in texts)
        assert (counts["trainable"], counts["trainable_without_head"]) == expected


def test_the_table_of_all_methods_is_that_of_the_models():
    page = (DOC.parent / "methods.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([\d,-]+) \| [-\d., kMBashpe]+ \|$", page, re.M))
    assert set(rows) == set(list_methods())
    network = pp.create_model("point_mae", preset="scanobjectnn", num_classes=15)
    bank = pp.MemoryBank(torch.zeros(network.backbone.num_features, 20))
    for name, stated in rows.items():
        if stated != "-":
            config = config_class(name)()
            given = bank if config.uses_bank else None
            counts = pp.get_peft_model(network, config, given).count_parameters()
            assert counts["trainable_without_head"] == int(stated.replace(",", "")), name
