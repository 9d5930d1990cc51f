"""The Triton kernel of deformable attention, on the GPU where there is one.

Without a GPU it runs in triton's interpreter, which shows what it computes, and is compiled for GPUs ahead of time,
which shows that it can be. CUDA builds of torch bring triton along; without it there is nothing to test.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton comes with CUDA builds of torch, and this one has none"
)


def run(*arguments: str, interpret: bool) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpret))}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_equals_the_form_that_gathers_rows() -> None:
    cases = Path(__file__).with_name("deformable_triton_cases.py")
    out = run("-m", "pytest", "-p", "no:cacheprovider", str(cases), interpret=not torch.cuda.is_available())
    assert "3 passed" in out


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from everymask.networks.layers.deformable_triton import kernel_constants, _read_pyramid as kernel
import torch
for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
    constants = kernel_constants(heads=8, levels=3, points=4, channels=32, dtype=dtype)
    kinds = {"values": name, "offsets": name, "logits": name, "out": name, "columns": "fp32", "rows": "fp32"}
    kinds |= {"widths": "i64", "heights": "i64", "starts": "i64"}
    signature = {each: "*" + kinds[each] if each in kinds else "i32" for each in kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = [place for place, each in enumerate(kernel.arg_names) if each not in constants and each != "queries"]
    source = ASTSource(
        kernel,
        signature,
        {(kernel.arg_names.index(each),): value for each, value in constants.items()},
        {(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    compiled = compile(source, target=GPUTarget("cuda", 80, 32))
    print(name, compiled.metadata.shared, compiled.asm["ptx"].count("ld.global.v4"))
"""


def test_it_compiles_for_a_gpu_and_reads_rows_by_16_bytes_a_thread() -> None:
    """Of Mask2Former's sizes. Nothing goes from thread to thread (shared memory), and no load of a row is split."""
    corners = 3 * 4 * 4
    assert run("-c", COMPILE, interpret=False).split() == ["fp32", "0", str(corners), "bf16", "0", str(corners)]
