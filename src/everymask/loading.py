"""``load``: from a name and a caller's wishes to a model that is ready to segment."""

from dataclasses import replace
from pathlib import Path

import torch

from everymask.checkpoints import Checkpoint, load_checkpoint
from everymask.checkpoints.strict import own_weights
from everymask.devices import choose_device, choose_dtype
from everymask.engines.choice import check_engine, make_engine
from everymask.errors import OptionError
from everymask.input_size import check_size, with_size
from everymask.segmenter import Segmenter
from everymask.sliding import Window, check_window, with_tiling
from everymask.tiling import Tiling


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "eager",
    size: str | int = "checkpoint",
    window: Window | None = None,
    overlap: float | None = None,
    depth: str | Path | None = None,
    commercial: bool = False,
    base: str | Path | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Segmenter:
    """Loads a model, ready to segment.

    ``name`` is a bundled name, a folder in the transformers layout or a Hub id "owner/name" (``revision``, ``token``
    and ``cache_dir`` are for the latter). ``device`` is "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:N" or
    "mps". ``dtype`` is what the network computes in: "auto" (bfloat16 for classes and masks where the device has it in
    hardware, float32 elsewhere and for depth), "float32", "bfloat16", "float16" (not on the CPU) or "int8" (with engine
    "openvino" and a folder that ``quantize`` wrote). ``engine`` is what runs the network: "eager" (torch as it is),
    "compile" (torch.compile), "openvino" (an extra, on the CPU), "graphs" (CUDA graphs, on a GPU) or "auto", the
    fastest that is installed. ``size`` is how images are resized: "checkpoint"
    as the checkpoint's file says, "published" as they were when its accuracy was measured (from the catalogue), or the
    shortest edge in pixels, 32 or more (see ``input_size``); masks always have the size of the image. ``window``, a
    side or (height, width) in pixels, sends an image through the network in windows that ``overlap`` by a part of
    0..0.9 (None: 0.25) and joins their class scores smoothly, for the semantic task; images then keep their own size
    unless ``size`` is given, too.
    ``depth`` names a second model, of depth, whose result every result then carries.
    ``commercial=True`` refuses weights whose licence is not known to allow commercial use (see
    ``checkpoints.licenses``).
    ``base`` is for weights that are only the differences from gated ones (EoMT with DINOv3): the folder or Hub id of
    those; None means the repository they are published in.
    Raises OptionError for a device, dtype or engine that is unknown or not to be had here and for a wrong size or
    window, before anything is downloaded, or for a size, window, depth or base this model cannot have, and
    CheckpointError where the model cannot be found, downloaded or read, or is refused for its licence.
    """
    torch_device = choose_device(device)
    # What is wrong is refused before anything is downloaded.
    check_engine(engine, choose_dtype(dtype, torch_device))
    check_size(size)
    tiling = check_window(window, overlap)
    checkpoint = load_checkpoint(
        name, revision=revision, token=token, cache_dir=cache_dir, base=base, commercial=commercial, share=True
    )
    checkpoint = seeing(checkpoint, size, tiling)
    depth_model = None
    if depth is not None:
        if checkpoint.depth_kind is not None:
            raise OptionError(f"{checkpoint.name} gives depth itself: leave depth={str(depth)!r} out")
        depth_model = load(
            depth,
            device=device,
            dtype=dtype,
            engine=engine,
            commercial=commercial,
            token=token,
            cache_dir=cache_dir,
        )
        if depth_model.tasks != ("depth",):
            raise OptionError(f"{depth} gives no depth alone: for depth= choose a model whose task is depth")
    return ready(checkpoint, torch_device, dtype, engine, depth_model)


def ready(
    checkpoint: Checkpoint, device: torch.device, dtype: str, engine: str, depth_model: Segmenter | None = None
) -> Segmenter:
    """A checkpoint, loaded with ``share=True``, as a model for good: its network is the engine's from here on.

    ``dtype`` and ``engine`` are as ``load`` takes them, and it says what is raised where they cannot be.
    """
    torch_dtype = choose_dtype(dtype, device, depth=checkpoint.depth_kind is not None)
    runner = make_engine(engine, checkpoint.network, device, torch_dtype, checkpoint.folder)
    own_weights(checkpoint.network)  # those that the engine has not converted or packed, straight from the file
    return Segmenter(checkpoint, runner, depth_model)


def seeing(checkpoint: Checkpoint, size: str | int, tiling: Tiling | None) -> Checkpoint:
    """The same checkpoint, whose network sees images at ``size`` (see ``load``) and, with ``tiling``, in windows.

    Raises OptionError where it cannot.
    """
    preprocessing = with_size(checkpoint.preprocessing, size, checkpoint.published_size, checkpoint.name)
    if tiling is None:
        return replace(checkpoint, preprocessing=preprocessing)
    resized = size != "checkpoint"
    preprocessing = with_tiling(preprocessing, tiling, checkpoint.tasks, checkpoint.name, resized=resized)
    return replace(checkpoint, preprocessing=preprocessing, tasks=("semantic",))
