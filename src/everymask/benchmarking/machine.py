"""What a benchmark ran on."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")
# What decides how fast bfloat16 and 8-bit integers are, as Linux spells it.
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


@dataclass(frozen=True, slots=True)
class Machine:
    """``processor``: name, and family and model where the name tells little. ``flags``: the instruction sets that
    decide how fast a network is. ``cores``: those this process may use; ``threads``: those torch computes with.
    ``memory``: of the machine in GiB, None where it is not told. ``gpu``: the one that computes, None on the CPU.
    """

    processor: str
    flags: tuple[str, ...]
    cores: int
    threads: int
    memory: float | None
    torch: str
    gpu: str | None

    def __str__(self) -> str:
        """One line for people."""
        memory = "" if self.memory is None else f", {self.memory:.0f} GiB"
        gpu = "" if self.gpu is None else f"{self.gpu}; "
        flags = f" ({', '.join(self.flags)})" if self.flags else ""
        return f"{gpu}{self.processor}{flags}, {self.cores} cores, {self.threads} threads{memory}, torch {self.torch}"


def this_machine(device: torch.device) -> Machine:
    """The machine that computes on ``device``."""
    name, flags = _processor(_CPUINFO.read_text() if _CPUINFO.exists() else "")
    return Machine(
        processor=name,
        flags=flags,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=_memory(),
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    )


def _processor(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Name and telling flags, from the content of /proc/cpuinfo where there is one."""
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.split("\n\n")[0], re.MULTILINE))
    name = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields and "model" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    present = (fields.get("flags") or fields.get("Features") or "").split()
    return name, tuple(flag for flag in _TELLING_FLAGS if flag in present)


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # not everywhere is it told
        return None
