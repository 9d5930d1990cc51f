"""everymask against transformers and against transformers through OpenVINO: image in to result out, phase by phase.

    python benchmarks/peers.py segformer                    # one row; without names all nine
    python benchmarks/peers.py mask2former --openvino --compile
    python benchmarks/peers.py detr --repeats 1 --only float32

Everyone loads the same random weights from one folder and reads the same photograph file of 640 x 480; transformers
runs as its image-segmentation pipeline does. With random weights no query is sure of anything, so the threshold is set
between the scores of the tenth and the eleventh query, the same for everyone: ten are kept. Subjects take turns.
Ratios are over "transformers float32", with SDPA where the network has it; the gate compares the same.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from peer_models import KEPT, MODELS, PeerModel, save, threshold_of
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoImageProcessor, ImageSegmentationPipeline, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import ModelOutput

from everymask.atomic import write
from everymask.benchmarking.bench import segmenter_subject
from everymask.benchmarking.ceiling import measure_ceiling, yardstick
from everymask.benchmarking.flops import count_gflop
from everymask.benchmarking.gate import Record, losses, read_record, write_record
from everymask.benchmarking.machine import this_machine
from everymask.benchmarking.report import Report, report
from everymask.benchmarking.timing import Subject, measure
from everymask.checkpoints import load_checkpoint
from everymask.decoding import decoding_options, relevant_queries
from everymask.devices import dtype_name
from everymask.engines.choice import available_engines
from everymask.engines.engine import Inputs
from everymask.images import read_image
from everymask.loading import load
from everymask.preprocessing import prepare
from everymask.stopwatch import Stopwatch

PHOTO = Path(__file__).parents[1] / "src" / "everymask" / "bundled" / "photos" / "high-street.jpg"
CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.bfloat16)


def everymask_subjects(
    folder: Path, model: PeerModel, photo: Path, engines: list[str], wanted: Callable[[str], bool]
) -> tuple[list[Subject], float | None]:
    """everymask's engines and number types, and the threshold at which ten queries are kept."""
    checkpoint = load_checkpoint(folder)
    prepared = prepare(read_image(photo), checkpoint.preprocessing)
    assert tuple(prepared.geometry.padded) == model.size, prepared.geometry
    tokens = None if checkpoint.task_tokens is None else checkpoint.task_tokens[model.task][None]
    nothing = Inputs(prepared.pixel_values, tokens, lambda class_logits: class_logits[..., 0] > torch.inf)
    threshold = None
    if model.task == "panoptic":
        threshold = threshold_of(load(folder, dtype="float32", engine="eager").engine(nothing))
    keep = relevant_queries(decoding_options(model.task, threshold=threshold), checkpoint.labels)
    gflop = count_gflop(checkpoint.network, Inputs(prepared.pixel_values, tokens, keep))
    subjects = []
    for engine in engines or available_engines(checkpoint.network, CPU):
        for dtype in map(dtype_name, DTYPES):
            if wanted(f"everymask {engine} {dtype}"):
                segmenter = load(folder, device="cpu", dtype=dtype, engine=engine)
                # Rounding moves scores that hardly differ: each keeps its own ten.
                own = None if threshold is None else threshold_of(segmenter.engine(nothing))
                subject = segmenter_subject(segmenter, photo, gflop, task=model.task, threshold=own)
                # Nobody else draws: the result is where the comparison ends.
                subjects.append(Subject(f"everymask {subject.name}", subject.run, subject.dtype, gflop))
    return subjects, threshold


def transformers_subjects(
    folder: Path, model: PeerModel, photo: Path, threshold: float | None, wanted: Callable[[str], bool]
) -> Iterator[Subject]:
    """The pipeline in float32 and bfloat16, with the attention that transformers chooses and with its eager one."""
    kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    gflop: dict[str, float] = {}

    def subject(name: str, network: PreTrainedModel, forward: Callable[..., Any]) -> Subject:
        pipeline = _pipeline(folder, network)
        if "gflop" not in gflop:
            gflop["gflop"] = _gflop(pipeline, model, photo)
        run = partial(_run, pipeline, forward, model, photo, threshold)
        return Subject(name, run, "bfloat16" if "bfloat16" in name else "float32", gflop["gflop"])

    chosen: Any = None
    for dtype in DTYPES:
        if wanted(name := f"transformers {dtype_name(dtype)}"):
            chosen = kind.from_pretrained(folder, dtype=dtype).eval()
            yield subject(name, chosen, chosen)
        if wanted(name := f"transformers compile {dtype_name(dtype)}"):
            network = kind.from_pretrained(folder, dtype=dtype).eval()
            yield subject(name, network, torch.compile(network))
        if wanted(name := f"transformers openvino {dtype_name(dtype)}"):
            network = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            yield subject(name, network, _through_openvino(_pipeline(folder, network), model, photo, dtype))
    if wanted(name := "transformers eager-attention float32"):
        network = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        if chosen is None or chosen.config._attn_implementation != "eager":
            yield subject(name, network, network)


def _pipeline(folder: Path, network: PreTrainedModel) -> ImageSegmentationPipeline:
    options = {}
    if (folder / "tokenizer.json").exists():
        options["tokenizer"] = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>", unk_token="<pad>"
        )
    processor = AutoImageProcessor.from_pretrained(folder)
    return ImageSegmentationPipeline(model=network, image_processor=processor, device="cpu", **options)


def _run(
    pipeline: ImageSegmentationPipeline,
    forward: Callable[..., Any],
    model: PeerModel,
    photo: Path,
    threshold: float | None,
    stopwatch: Stopwatch,
) -> Any:
    """What ``pipeline(photo)`` does, step by step."""
    options = {} if threshold is None else {"threshold": threshold, "overlap_mask_area_threshold": 0.8}
    with torch.inference_mode():
        with stopwatch.phase("read"):
            image = Image.open(photo).convert("RGB")
        with stopwatch.phase("prepare"):
            inputs = pipeline.preprocess(image, subtask=model.task)
        with stopwatch.phase("network"):
            target_size = inputs.pop("target_size")
            outputs = forward(**inputs)
        with stopwatch.phase("decode"):
            outputs["target_size"] = target_size
            return pipeline.postprocess(outputs, subtask=model.task, **options)


def _gflop(pipeline: ImageSegmentationPipeline, model: PeerModel, photo: Path) -> float:
    """Of transformers' forward pass, which really runs: some of its networks cannot do without values."""
    inputs = pipeline.preprocess(str(photo), subtask=model.task)
    inputs.pop("target_size")
    assert tuple(inputs["pixel_values"].shape[2:]) == model.size, inputs["pixel_values"].shape
    counter = FlopCounterMode(display=False)
    pipeline.model.requires_grad_(False)  # the counter cannot do with gradients
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        pipeline.model(**inputs)
    return counter.get_total_flops() / 1e9


class _Outputs(nn.Module):
    """What post-processing reads, as a tuple: that is what OpenVINO converts."""

    def __init__(self, network: PreTrainedModel, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, outputs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        said = self.network(**dict(zip(self.inputs, values, strict=True)))
        return tuple(said[name] for name in self.outputs)


def _through_openvino(
    pipeline: ImageSegmentationPipeline, model: PeerModel, photo: Path, dtype: torch.dtype
) -> Callable[..., Any]:
    """The pipeline's network, converted at the one size that it sees, computing in ``dtype``."""
    import openvino

    inputs = pipeline.preprocess(str(photo), subtask=model.task)
    names = tuple(name for name in ("pixel_values", "pixel_mask", "task_inputs") if name in inputs)
    example = tuple(inputs[name] for name in names)
    with torch.no_grad():
        converted = openvino.convert_model(_Outputs(pipeline.model, names, model.outputs), example_input=example)
    converted.reshape({port: list(each.shape) for port, each in zip(converted.inputs, example, strict=True)})
    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(converted, "CPU", settings)

    def forward(**values: Tensor) -> Any:
        said = compiled([values[name].numpy() for name in names])
        outputs = ModelOutput()
        for name, port in zip(model.outputs, compiled.outputs, strict=True):
            outputs[name] = torch.from_numpy(said[port])
        return outputs

    return forward


def compare(name: str, arguments: argparse.Namespace, folder: Path) -> Report:
    """One row of the table: a network, everyone in turns."""
    model, photo = MODELS[name], folder / "photo.png"
    save(model, folder)
    Image.open(PHOTO).convert("RGB").resize((640, 480)).save(photo)

    def wanted(subject: str) -> bool:
        special = {"compile": arguments.compile, "openvino": arguments.openvino, "eager-attention": arguments.eager}
        if subject.startswith("transformers") and not all(on for word, on in special.items() if word in subject):
            return False
        return not arguments.only or any(word in subject for word in arguments.only)

    ours, threshold = everymask_subjects(folder, model, photo, arguments.engines, wanted)
    theirs = list(transformers_subjects(folder, model, photo, threshold, wanted))
    subjects = [*theirs, *ours]
    if not subjects:
        raise SystemExit("--only leaves nothing to measure")
    ceiling = measure_ceiling(CPU, DTYPES)
    times = measure(subjects, yardstick(CPU), repeats=arguments.repeats, warm_up=arguments.warm_up)
    kept = "" if threshold is None else f", {KEPT} queries kept"
    work = f"{model.task} segmentation of a photograph of 640 x 480, random weights{kept}"
    return report(model.title, work, subjects, times, ceiling, this_machine(CPU))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(MODELS)}; all without a name")
    parser.add_argument("--engines", nargs="+", default=[], help="everymask's; all that are installed but compile")
    parser.add_argument("--only", nargs="+", default=[], help="subjects whose names have one of these in them")
    parser.add_argument("--eager", action="store_true", help="also transformers with its eager attention")
    parser.add_argument("--compile", action="store_true", help="also transformers through torch.compile, which is slow")
    parser.add_argument("--openvino", action="store_true", help="also transformers through OpenVINO")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--record", type=Path, help="record the ratios over transformers float32 in a gate file")
    parser.add_argument("--gate", type=Path, help="fail where more than 10 %% of a recorded ratio is lost")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(MODELS)
    if unknown:
        parser.error(f"unknown networks {', '.join(sorted(unknown))}: choose from {', '.join(MODELS)}")
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    reports = []
    for name in arguments.networks or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            reports.append(compare(name, arguments, Path(folder)))
        print(reports[-1].to_markdown(), flush=True)
    if arguments.json:
        write(arguments.json, json.dumps([each.to_json() for each in reports], indent=1).encode())
    if arguments.markdown:
        write(arguments.markdown, "\n".join(each.to_markdown() for each in reports).encode())
    return max(_gate(each, arguments) for each in reports)


def _gate(measured: Report, arguments: argparse.Namespace) -> int:
    """The exit status. What the gate knows of is compared: everymask's subjects, over transformers float32."""
    if not (arguments.gate or arguments.record):
        return 0
    if measured.rows[0].subject != "transformers float32":
        raise SystemExit("a gate needs transformers float32 among the subjects: leave --only out, or name it there")
    ratios = {row.subject: row.speedup for row in measured.rows if row.subject.startswith("everymask")}
    if arguments.record:
        write_record(arguments.record, measured.title, Record(str(measured.machine), ratios))
    lost = losses(read_record(arguments.gate, measured.title), ratios) if arguments.gate else []
    for each in lost:
        print(f"slower than recorded: {measured.title}: {each}", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
