"""What ``load`` leaves behind."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import everymask
from everymask.checkpoints.find import BUNDLED
from everymask.cli.demo import PHOTO


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_file_is_in_use_once_a_model_is_loaded(tmp_path, dtype):
    shutil.copytree(BUNDLED / "street", tmp_path / "street")
    weights = tmp_path / "street" / "model.safetensors"
    halves = load_file(BUNDLED / "street" / "model.safetensors")
    whole = {key: half.float() if half.is_floating_point() else half for key, half in halves.items()}
    save_file(whole, weights)  # weights that are float32 are the ones that could stay in the file
    model = everymask.load(tmp_path / "street", device="cpu", dtype=dtype, engine="eager")
    with weights.open("r+b") as file:  # in place: a mapping of the file sees it
        file.write(bytes(weights.stat().st_size))
    expected = everymask.load("street", device="cpu", dtype=dtype, engine="eager")
    prepared = model.prepare(PHOTO).pixel_values.to(model.engine.dtype)
    with torch.inference_mode():
        one, other = model.network(prepared), expected.network(prepared)
    assert torch.equal(one.mask_logits, other.mask_logits)
    assert torch.equal(one.class_logits, other.class_logits)
