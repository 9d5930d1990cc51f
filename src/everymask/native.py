"""Compiled C for the few loops that torch has no operation for: sources in the package, built when first needed.

The system's C compiler (``cc``) builds a source for the processor it runs on, which takes about a second, once: the
library is kept in the user's cache folder, under a name that stands for source, flags, compiler and processor. Where
there is no compiler, or it fails, or the folder cannot be written, there is no library and nobody is told: the caller
then does the same with torch, more slowly.
"""

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from everymask.cache import private_folder

COMPILER = "cc"
# Of what -ffast-math allows only what leaves NaN and infinity as they are; -march=native makes use of wide registers.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SHARED = Path(__file__).with_suffix(".h")  # what sources include


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library of a C source, or None where it is not to be had. Asked once a process."""
    try:
        return ctypes.CDLL(str(_library(source, COMPILER)))
    # No compiler, an old one, no home, no space, a folder whose files may not be executed.
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None


def in_threads(run: Callable[[int, int], object], total: int, most: int) -> None:
    """Calls ``run(first, last)`` for parts of 0..total, side by side: ``most`` threads, and no more than torch has.

    ctypes lets other threads run while it is in C. Where torch's threads are GNU OpenMP's, these do it: for some
    milliseconds after each operation of torch they keep their processors busy, and other threads would have to share
    those. Elsewhere threads are started. What ``run`` raises in any of them is raised here, when all have ended.
    """
    threads = max(1, min(torch.get_num_threads(), most, total))
    if threads == 1:
        run(0, total)
        return
    bounds = [total * part // threads for part in range(threads + 1)]
    parts = iter(list(pairwise(bounds)))  # of all threads together: whoever asks gets the next one
    errors: list[BaseException] = []

    def run_part() -> None:
        try:
            for part in parts:  # a team may be smaller than was asked for
                run(*part)
        except BaseException as error:
            errors.append(error)

    team = _team()
    if team is not None:
        team(run_part, threads)
    else:
        with ThreadPoolExecutor(threads, "everymask-native") as helpers:
            for _ in range(threads):
                helpers.submit(run_part)
    if errors:
        raise errors[0]


@cache
def _team() -> Callable[[Callable[[], None], int], None] | None:
    """What lets a number of torch's own threads call a function, each once; None where these are not GNU OpenMP's."""
    if not torch.backends.openmp.is_available():
        return None
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel  # among what torch has loaded for all to see
    except (AttributeError, OSError, TypeError):
        return None
    called = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel.argtypes = (called, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return lambda run, threads: parallel(called(lambda _: run()), None, threads, 0)


def _library(source: Path, compiler: str) -> Path:
    """The shared library in the cache, compiled if it is not there. Raises OSError, RuntimeError or SubprocessError."""
    # What the compiler defines tells its version and every instruction set of the processor it would compile for.
    target = _output([compiler, *FLAGS, "-dM", "-E", "-x", "c", os.devnull])
    parts = source.read_bytes(), SHARED.read_bytes(), " ".join(FLAGS).encode(), target
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    folder = private_folder("kernels")
    path = folder / f"{name}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            built = Path(aside) / path.name
            _output([compiler, *FLAGS, "-I", str(SHARED.parent), "-o", str(built), str(source)])
            os.replace(built, path)
    return path


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
