"""Networks in int8: ranges of values are learnt from images, and what OpenVINO then runs lies beside the weights."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from everymask.atomic import write
from everymask.checkpoints import Checkpoint, load_checkpoint
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.files import TOKENIZER_FILES
from everymask.checkpoints.save import save_checkpoint
from everymask.checkpoints.strict import no_random_initialisation
from everymask.engines.fingerprint import weights_fingerprint
from everymask.engines.openvino import check_openvino
from everymask.engines.quantized import quantized_file
from everymask.engines.unreported import unreported
from everymask.errors import ImageError, MissingExtraError, OptionError
from everymask.geometry import Size
from everymask.images import read_image
from everymask.input_size import check_size
from everymask.loading import seeing
from everymask.preprocessing import prepare
from everymask.sliding import Window, check_window

if TYPE_CHECKING:
    import openvino as ov

PASSES = 3
"""How often an image is read: once for its size, and twice for the values that it causes in the network."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What ``quantize`` made.

    ``file``: the int8 network; ``size``: of its input. ``images``: from how many it learnt; ``others``: how many were
    left out because the network sees them at another size; ``failures``: of those that cannot be read.
    """

    file: Path
    size: Size
    images: int
    others: int
    failures: tuple[ImageError, ...]


def quantize(
    model: str | Path,
    images: Sequence[Any],
    output: str | Path,
    *,
    limit: int = 300,
    size: str | int = "checkpoint",
    window: Window | None = None,
    overlap: float | None = None,
    seen: Callable[[], object] = lambda: None,
) -> Quantized:
    """Writes a folder that ``load(output, engine="openvino", dtype="int8")`` loads: a checkpoint with an int8 network.

    The ranges of what goes through the network come from images, those of weights from themselves (post-training
    quantisation, by NNCF); what is sensitive in transformers stays in floating point. Measure what that does to results
    with ``everymask evaluate``, and whether it is faster with ``everymask bench``: not every network is.

    ``model``, ``size``, ``window`` and ``overlap`` are as in ``load``; the result has to be loaded with the same ones.
    ``images`` are such as the model will meet, anything ``read_image`` takes; at most ``limit`` of them, evenly spread,
    are read, each three times, and then ``seen`` is called. An int8 network takes inputs of one size: that which the
    network sees most of the images at. ``output`` is a new folder, or the one of ``model``, to which another size can
    be added.

    Raises OptionError for a wrong limit, size, window or output, for a network that OpenVINO does not run and where no
    image can be read; MissingExtraError without NNCF; CheckpointError as ``load`` does.
    """
    if limit < 1:
        raise OptionError(f"limit is {limit}: it must be at least 1")
    check_size(size)
    tiling = check_window(window, overlap)
    checkpoint = load_checkpoint(model)
    check_openvino(checkpoint.network, torch.device("cpu"))
    _import_nncf()
    folder = Path(output)
    adds = _adds(folder, checkpoint)
    sees = seeing(checkpoint, size, tiling)
    looked_at = range(0, len(images), max(1, -(-len(images) // limit)))
    sizes, failures = _input_sizes(sees, images, looked_at, seen)
    if not sizes:
        raise OptionError(
            f"no image to learn from: {failures[0]}" if failures else "no images to learn from: give some"
        )
    [(common, count)] = Counter(sizes.values()).most_common(1)
    chosen = [index for index, each in sizes.items() if each == common]

    def inputs(place: int) -> list[NDArray[Any]]:
        arguments = _inputs(sees, images[chosen[place]], place)
        seen()
        return arguments

    quantized = _quantize(sees, len(chosen), inputs)
    if not adds:
        _save(checkpoint, folder)
    file = quantized_file(folder, common)
    from everymask.engines.openvino_models import save_model

    save_model(quantized, file, weights_fingerprint(checkpoint.network))
    return Quantized(file, common, count, len(sizes) - count, tuple(failures))


def _adds(folder: Path, checkpoint: Checkpoint) -> bool:
    """Whether ``folder`` is the checkpoint's own. Raises OptionError where it is neither that nor new."""
    if folder.is_dir() and folder.samefile(checkpoint.folder):
        return True
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OptionError(
            f"{folder} is there already: give a new folder as output, or quantize the model in it, which adds to it"
        )
    return False


def _input_sizes(
    checkpoint: Checkpoint, images: Sequence[Any], indices: Sequence[int], seen: Callable[[], object]
) -> tuple[dict[int, Size], list[ImageError]]:
    """The size at which the network sees each image, by its index, and why others cannot be read."""
    sizes, failures = {}, []
    for index in indices:
        try:
            height, width = read_image(images[index]).shape[:2]
            sizes[index] = checkpoint.preprocessing.geometry(Size(height, width)).padded
        except ImageError as error:
            failures.append(error)
        seen()
    return sizes, failures


def _inputs(checkpoint: Checkpoint, image: Any, place: int) -> list[NDArray[Any]]:
    """What the network is given for an image: of its windows and the tasks, from place to place the next."""
    windows = list(prepare(read_image(image), checkpoint.preprocessing).windows())
    arguments = [windows[place % len(windows)].contiguous()]  # (1, 3, h, w)
    if checkpoint.task_tokens is not None:
        tokens = [checkpoint.task_tokens[task] for task in checkpoint.tasks]
        arguments.append(tokens[place % len(tokens)][None])  # (1, length)
    return [each.numpy() for each in arguments]


def _quantize(checkpoint: Checkpoint, count: int, inputs: Callable[[int], list[NDArray[Any]]]) -> "ov.Model":
    """The network as OpenVINO's model in int8; ``inputs`` gives what it takes, for 0 to ``count`` - 1."""
    from everymask.engines.openvino_models import convert, without_pixels

    nncf = _import_nncf()
    model = convert(checkpoint.network, [torch.from_numpy(each) for each in inputs(0)])
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(range(count), inputs),
            subset_size=count,
            # Symmetric ranges: no less exact, and where there are large convolutions faster; see benchmarks/NOTES.md.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=without_pixels(model)),
            # Processors without VNNI add pairs of products in 16 bits, which full weights overflow; half of their range
            # does not. The file may be made on one machine and run on another.
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def _import_nncf() -> Any:
    try:
        with unreported():
            import nncf
    except ImportError as error:
        raise MissingExtraError(
            "making int8 networks needs an extra: install it with pip install 'everymask[int8]'"
        ) from error
    return nncf


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, NNCF keeps what it does to itself; it would print on stdout."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _save(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes the checkpoint, with what the catalogue knows of it: under another name it will not be found there."""
    with no_random_initialisation():
        _, layout = FAMILIES[checkpoint.config["model_type"]].build(checkpoint.config, len(checkpoint.labels))
    save_checkpoint(
        folder,
        checkpoint.network,
        layout,
        checkpoint.config,
        checkpoint.preprocessor,
        labels=checkpoint.labels,
        tasks=checkpoint.tasks,
        license=checkpoint.license,
    )
    for name in TOKENIZER_FILES if checkpoint.task_tokens is not None else ():
        if (checkpoint.folder / name).exists():
            write(folder / name, (checkpoint.folder / name).read_bytes())
