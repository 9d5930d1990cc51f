"""Freed buffers are kept where a network is loaded for good, and only there."""

import platform
import subprocess
import sys

import pytest

CODE = """
import numpy as np, resource
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(48 << 20, np.uint8)
start = faults()
for _ in range(5):
    np.ones(48 << 20, np.uint8)
print(faults() - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
@pytest.mark.parametrize(("before", "faults_again"), [
    ("", True),
    ("from everymask.engines.memory import keep_large_buffers; keep_large_buffers()", False),
    ("import everymask; everymask.load('street', device='cpu')", False),
])  # fmt: skip
def test_large_buffers_fault_once(before, faults_again):
    code = CODE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Without huge pages a buffer of 48 MiB is 12 288 pages, with them 24.
    assert (int(done.stdout) >= 5 * 24) == faults_again
