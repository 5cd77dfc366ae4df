"""Files in every published layout, written from the manifests, through ``convert`` and back."""

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import TEACHER
from pointpeft.compat.checkpoints.checkpoint_converter import convert
from pointpeft.compat.checkpoints.checkpoint_reader import read_checkpoint
from tests.models.test_published import publish
from tests.parity.support import Case, Fields, folder

#: Whole published networks by manifest, and after a comma what is special: layout, and what the
#: file does not show.
FILES = {
    "point_bert_dvae": ("Point-BERT, tokenizer", {}),
    "point_bert_pretrain": ("Point-BERT, pre-trained", {}),
    "point_bert_cls_scan": ("Point-BERT, fine-tuned for classification", {}),
    "point_bert_partseg": ("Point-BERT, fine-tuned for part segmentation", {}),
    "point_mae_pretrain": ("Point-MAE, pre-trained", {}),
    "point_mae_cls_scan": ("Point-MAE, fine-tuned for classification", {"preset": "scanobjectnn"}),
    "point_mae_partseg": ("Point-MAE, fine-tuned for part segmentation", {}),
    "pcp_mae_pretrain": ("PCP-MAE, pre-trained", {}),
    "pcp_mae_cls_scan": ("PCP-MAE, fine-tuned for classification", {"preset": "scanobjectnn"}),
    "point_m2ae_pretrain": ("Point-M2AE, pre-trained", {}),
    "point_m2ae_cls_modelnet": ("Point-M2AE or I2P-MAE, fine-tuned for classification", {}),
    "point_m2ae_cls_scan": (
        "Point-M2AE or I2P-MAE, fine-tuned for classification",
        {"preset": "scanobjectnn"},
    ),
    "point_m2ae_partseg": ("Point-M2AE or I2P-MAE, fine-tuned for part segmentation", {}),
    "i2p_mae_pretrain": ("I2P-MAE, pre-trained, with its image teacher", {}),
    "i2p_mae_pretrain, without its teacher": ("I2P-MAE, pre-trained", {}),
    "i2p_mae_cls_scan": (
        "Point-M2AE or I2P-MAE, fine-tuned for classification",
        {"name": "i2p_mae", "preset": "scanobjectnn"},
    ),
    "point_m2ae_partseg, of I2P-MAE": (
        "Point-M2AE or I2P-MAE, fine-tuned for part segmentation",
        {"name": "i2p_mae", "preset": "shapenetpart"},
    ),
    "point_peft_mae_scan": (
        "Point-PEFT on Point-MAE",
        {"preset": "scanobjectnn", "bank": "none"},
    ),
    "point_peft_m2ae_scan": (
        "Point-PEFT on Point-M2AE",
        {"preset": "scanobjectnn", "bank": "none"},
    ),
}


@pytest.mark.skipif(not folder().is_dir(), reason=f"no parity cases in {folder()}")
@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_recognised_and_converted_whole(name, tmp_path):
    layout, options = FILES[name]
    case = Case(folder() / f"{name.partition(',')[0]}.json")
    if "without its teacher" in name:
        whole = case.data["manifest"]
        own = {name: size for name, size in whole.items() if not name.startswith(TEACHER)}
        case.data["manifest"] = Fields(own)
    weights = case.weights()
    source = publish(tmp_path / "ckpt-best.pth", weights)
    content = read_checkpoint(source)
    assert content.title == layout
    report = convert(source, tmp_path / "ours.safetensors", **options)
    assert not report.fresh
    assert all(name.startswith(tuple(report.reasons)) for name in report.left)
    assert len(report.used) + len(report.left) == len(weights)
    if "Point-PEFT" in layout:
        base = pp.create_model(
            content.layout.model, checkpoint=tmp_path / "ours/backbone.safetensors"
        )
        model = pp.load_adapter(base, tmp_path / "ours/adapter")
        assert model.config.reference_compat
        state = model.adapter.state_dict()
    else:
        state = read_checkpoint(tmp_path / "ours.safetensors").state
    assert state.keys() == content.state.keys() - set(report.left)
    assert all(torch.equal(state[n], content.state[n].to(state[n])) for n in state)
