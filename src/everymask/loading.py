"""``load``: from a name and a caller's wishes to a model that is ready to segment."""

from dataclasses import replace
from pathlib import Path

from everymask.checkpoints import load_checkpoint
from everymask.devices import choose_device, choose_dtype
from everymask.errors import OptionError
from everymask.input_size import check_size, with_size
from everymask.segmenter import Segmenter
from everymask.sliding import Window, check_window, with_tiling


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
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
    "mps". ``dtype`` is what the network computes in: "auto" (float32), "float32", "bfloat16" or, not on the CPU,
    "float16". ``size`` is how images are resized: "checkpoint" as the checkpoint's file says, "published" as they were
    when its accuracy was measured (from the catalogue), or the shortest edge in pixels, 32 or more (see
    ``input_size``); masks always have the size of the image. ``window``, a side or (height, width) in pixels, sends an
    image through the network in windows that ``overlap`` by a part of 0..0.9 (None: 0.25) and joins their class scores
    smoothly, for the semantic task; images then keep their own size unless ``size`` is given, too.
    ``depth`` names a second model, of depth, whose result every result then carries.
    ``commercial=True`` refuses weights whose licence is not known to allow commercial use (see
    ``checkpoints.licenses``).
    ``base`` is for weights that are only the differences from gated ones (EoMT with DINOv3): the folder or Hub id of
    those; None means the repository they are published in.
    Raises OptionError for a device or dtype that is unknown or not to be had here and for a wrong size or window,
    before anything is downloaded, or for a size, window, depth or base this model cannot have, and CheckpointError
    where the model cannot be found, downloaded or read, or is refused for its licence.
    """
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    check_size(size)
    tiling = check_window(window, overlap)
    checkpoint = load_checkpoint(
        name, revision=revision, token=token, cache_dir=cache_dir, base=base, commercial=commercial
    )
    preprocessing = with_size(checkpoint.preprocessing, size, checkpoint.published_size, checkpoint.name)
    tasks = checkpoint.tasks
    if tiling is not None:
        preprocessing = with_tiling(preprocessing, tiling, tasks, checkpoint.name, resized=size != "checkpoint")
        tasks = ("semantic",)
    depth_model = None
    if depth is not None:
        if checkpoint.depth_kind is not None:
            raise OptionError(f"{checkpoint.name} gives depth itself: leave depth={str(depth)!r} out")
        depth_model = load(depth, device=device, dtype=dtype, commercial=commercial, token=token, cache_dir=cache_dir)
        if depth_model.tasks != ("depth",):
            raise OptionError(f"{depth} gives no depth alone: for depth= choose a model whose task is depth")
    checkpoint = replace(checkpoint, preprocessing=preprocessing, tasks=tasks)
    return Segmenter(checkpoint, torch_device, torch_dtype, depth_model)
