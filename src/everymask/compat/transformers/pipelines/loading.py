"""``pipeline``: from transformers' arguments to a pipeline around a Segmenter."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from everymask.checkpoints import Checkpoint, load_checkpoint
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.files import PREPROCESSOR, read_json
from everymask.checkpoints.find import find
from everymask.compat.transformers.errors import (
    ArgumentTypeError,
    ModelError,
    NothingToLoadError,
    UnknownTaskError,
)
from everymask.compat.transformers.pipelines.depth_estimation import DepthEstimationPipeline
from everymask.compat.transformers.pipelines.image_segmentation import Decoding, ImageSegmentationPipeline
from everymask.devices import choose_device, choose_dtype, dtype_name
from everymask.engines.choice import check_engine
from everymask.errors import CheckpointError, OptionError
from everymask.loading import ready
from everymask.preprocessing import Preprocessing
from everymask.segmenter import Segmenter

SEGMENTATION, DEPTH = "image-segmentation", "depth-estimation"
DEFAULT_MODELS = {SEGMENTATION: ("facebook/detr-resnet-50-panoptic", "d53b52a"), DEPTH: ("Intel/dpt-large", "bc15f29")}
"""What transformers loads for a task without a model: the name and the revision."""

_MODEL_KWARGS = ("cache_dir", "dtype", "torch_dtype", "attn_implementation", "low_cpu_mem_usage", "use_safetensors")
"""What may be in ``model_kwargs``; the last three change nothing here."""


def pipeline(
    task: str | None = None,
    model: str | Path | Segmenter | None = None,
    config: None = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: str | Path | None = None,
    video_processor: Any = None,
    processor: Any = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: int | str | torch.device | None = None,
    device_map: str | None = None,
    dtype: str | torch.dtype | None = "auto",
    trust_remote_code: bool | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: None = None,
    *,
    torch_dtype: str | torch.dtype | None = None,
    framework: str | None = None,
    modelcard: Any = None,
    args_parser: Any = None,
    binary_output: bool = False,
    decoding: Decoding = "everymask",
    **options: Any,
) -> ImageSegmentationPipeline | DepthEstimationPipeline:
    """Makes a pipeline as ``transformers.pipeline`` does, in its order of arguments.

    - ``task``: "image-segmentation" or "depth-estimation"; None means what the model does.
    - ``model``: a Hub id, a folder, or a Segmenter that ``everymask.load`` gave, with the device and number type that
      it has; None means the task's model in transformers. ``revision`` and ``token`` are for the Hub.
    - ``image_processor``: the Hub id or folder whose preprocessor_config.json takes the place of the model's own.
    - ``device``: "cpu", "cuda", "cuda:1", "mps", a torch.device, or the number of a GPU; -1 is the CPU, None the first
      GPU and without one the CPU, and so is any number where there is no GPU. ``device_map``: "auto", or a device.
    - ``dtype`` (also named ``torch_dtype``): "float32", "bfloat16", "float16" or torch's own. "auto" and None mean
      float32, what published checkpoints are stored in, so that scores are those of transformers to the last digits;
      "bfloat16" is faster, and changes few pixels.
    - ``model_kwargs``: ``cache_dir`` and ``dtype``; ``attn_implementation`` and the like change nothing.
    - ``decoding``, which transformers does not have: "everymask" or "transformers"; see the package.
    - ``options``: ``batch_size``, ``num_workers`` and all that a call may say, for calls that say nothing else.

    Accepted without effect, as in transformers or because nothing depends on it: ``tokenizer``,
    ``feature_extractor``, ``processor``, ``video_processor``, ``use_fast``, ``trust_remote_code`` (no code of a
    checkpoint is ever executed), ``modelcard``, ``args_parser``, ``binary_output`` (read by transformers' former
    command line alone), ``framework="pt"``.

    Raises, all of them EverymaskErrors: RuntimeError for neither a task nor a model; KeyError for an unknown task;
    OSError where something cannot be found, downloaded or read; TypeError for options and types that there are not;
    ValueError for a model that does not do the task, for values that make no sense, and for what is refused: another
    ``framework`` than "pt", a ``config`` or ``pipeline_class`` of one's own, a ``device_map`` over several devices.
    """
    if task is None and model is None:
        raise NothingToLoadError("give a task, a model, or both: there is nothing to make a pipeline of")
    if task not in (None, *DEFAULT_MODELS):
        raise UnknownTaskError(f"unknown task {task!r}: everymask does {' and '.join(DEFAULT_MODELS)}")
    _refuse(framework=framework, config=config, pipeline_class=pipeline_class, device_map=device_map)
    if model is None and task is not None:
        model, default_revision = DEFAULT_MODELS[task]
        revision = revision or default_revision
    segmenter, names = model, None
    if not isinstance(segmenter, Segmenter):
        segmenter, names = _load(
            _name("model", model),
            None if image_processor is None else _name("image_processor", image_processor),
            _device(device if device_map is None else device_map),
            _dtype(dtype, torch_dtype, *_known(model_kwargs, "dtype", "torch_dtype")),
            revision,
            {"token": token if isinstance(token, str) else None, "cache_dir": _known(model_kwargs, "cache_dir")[0]},
        )
    elif image_processor is not None:
        raise OptionError("a loaded model has its image processor: give the name of the model beside another one")
    if task == DEPTH or (task is None and segmenter.tasks == ("depth",)):
        if decoding != "everymask":
            raise OptionError("decoding means nothing to depth: leave it out")
        return DepthEstimationPipeline(segmenter, **options)
    return ImageSegmentationPipeline(segmenter, names=names, decoding=decoding, **options)


def _refuse(framework: str | None, **ours: Any) -> None:
    if framework not in (None, "pt"):
        raise OptionError(f'framework {framework!r} is not there: everymask is PyTorch; leave it out or give "pt"')
    for name in ("config", "pipeline_class"):
        if ours[name] is not None:
            raise OptionError(f"{name} is not taken: everymask reads the config that lies beside the weights")
    if ours["device_map"] is not None and not isinstance(ours["device_map"], str):
        raise OptionError('a network is not spread over devices: give device_map="auto", or device')


def _load(
    model: str | Path,
    image_processor: str | Path | None,
    device: str,
    dtype: str,
    revision: str | None,
    hub: Mapping[str, Any],
) -> tuple[Segmenter, Sequence[str]]:
    """A model in eager mode, and what its config calls its classes. ``hub``: token and cache_dir."""
    torch_device = choose_device(device)
    check_engine("eager", choose_dtype(dtype, torch_device))  # before anything is downloaded
    try:
        checkpoint = load_checkpoint(model, revision=revision, share=True, **hub)
        if image_processor is not None:
            content = read_json(find(image_processor, **hub) / PREPROCESSOR)
            checkpoint = replace(checkpoint, preprocessing=Preprocessing.from_config(content))
        checkpoint = _with_all_tasks(checkpoint)
        return ready(checkpoint, torch_device, dtype, "eager"), _class_names(checkpoint)
    except CheckpointError as error:
        raise ModelError(str(error)) from error


def _with_all_tasks(checkpoint: Checkpoint) -> Checkpoint:
    """transformers reads queries in every way, whatever a network was trained for; windows have one reading only."""
    config = checkpoint.config
    possible = FAMILIES[config["model_type"]].tasks(config)
    return replace(checkpoint, tasks=("semantic",) if checkpoint.preprocessing.tiling else possible)


def _class_names(checkpoint: Checkpoint) -> Sequence[str]:
    """The names letter by letter as in the config, blanks around them included; LABEL_0 and so on without any."""
    id2label = checkpoint.config.get("id2label")
    indices = range(len(checkpoint.labels))
    return [f"LABEL_{index}" if id2label is None else id2label[str(index)] for index in indices]


def _name(argument: str, value: Any) -> str | Path:
    """What ``load_checkpoint`` takes; a string that is a folder means the folder, as in transformers."""
    if not isinstance(value, str | Path):
        raise ArgumentTypeError(
            f"{argument} is a {type(value).__name__}: give a Hub id or the path of a folder; what is in memory can be "
            "saved to one with save_pretrained"
        )
    return Path(value) if os.path.isdir(value) else value


def _known(model_kwargs: Mapping[str, Any] | None, *names: str) -> list[Any]:
    """What ``model_kwargs`` say under the names, None where they say nothing."""
    given = model_kwargs or {}
    unknown = sorted(set(given).difference(_MODEL_KWARGS))
    if unknown:
        raise ArgumentTypeError(f"unknown {unknown[0]!r} in model_kwargs: known are {', '.join(_MODEL_KWARGS)}")
    return [given.get(name) for name in names]


def _dtype(*wishes: str | torch.dtype | None) -> str:
    """The first of the wishes that says something, as ``everymask.load`` names it."""
    chosen = next((each for each in wishes if each not in (None, "auto")), torch.float32)
    return dtype_name(chosen) if isinstance(chosen, torch.dtype) else str(chosen)


def _device(device: int | str | torch.device | None) -> str:
    """As ``everymask.load`` names it."""
    if device is None or isinstance(device, str):
        return device or "auto"
    if isinstance(device, torch.device):
        return str(device)
    if not isinstance(device, int):
        raise ArgumentTypeError(f"device is a {type(device).__name__}: give a name, a number or a torch.device")
    if device < 0:
        return "cpu"
    return f"cuda:{device}" if torch.cuda.is_available() else "auto"
