"""How busy a stream keeps its network: images per second of a folder, of the network alone and from file to result.

    python benchmarks/throughput.py street FOLDER
    python benchmarks/throughput.py street FOLDER --batch-size 4 --engine eager --dtype float32 --limit 50

Both take turns; the network alone sees the same images, prepared before. Shares are of its throughput, medians of all
turns. The phases are milliseconds an image, each in its own thread: what is read while the network is at work costs
nothing as long as a core is free for it.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from torch import Tensor

import everymask
from everymask.decoding import DecodingOptions, decoding_options, relevant_queries
from everymask.engines.engine import Inputs
from everymask.segmenter import Segmenter
from everymask.stopwatch import Stopwatch

SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a bundled name, a folder or a Hub id")
    parser.add_argument("folder", type=Path, help="photographs; folders inside it are searched, too")
    parser.add_argument("--limit", type=int, default=40, help="how many of them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()

    paths = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.limit]
    model = everymask.load(arguments.model, engine=arguments.engine, dtype=arguments.dtype)
    options = decoding_options(model.tasks[0])
    inputs = [model.prepare(path) for path in paths]
    watch = Stopwatch()

    def network() -> None:
        for prepared in inputs:
            model.engine(_inputs(model, prepared.pixel_values, options))

    def stream() -> None:
        for _ in model.stream(paths, batch_size=arguments.batch_size, stopwatch=watch):
            pass

    alone, whole = [], []
    for turn in range(1 + arguments.repeats):
        if turn == 1:  # the first turn is not counted
            alone, whole, watch = [], [], Stopwatch()
        alone.append(len(paths) / _seconds(network))
        whole.append(len(paths) / _seconds(stream))
    share = statistics.median(one / other for one, other in zip(whole, alone, strict=True))
    print(f"{arguments.model}, {model.engine.name}, {model.engine.dtype}, {len(paths)} images")
    print(f"network alone {statistics.median(alone):.2f} images/s, from file to result {statistics.median(whole):.2f}")
    print(f"share {share:.1%}")
    for phase, seconds in watch.seconds.items():
        if seconds:
            print(f"{phase:8s} {1000 * seconds / (arguments.repeats * len(paths)):7.1f} ms an image")


def _inputs(model: Segmenter, pixel_values: Tensor, options: DecodingOptions) -> Inputs:
    tokens = None if model.task_tokens is None else model.task_tokens[options.task][None]
    return Inputs(pixel_values, tokens, relevant_queries(options, model.labels))


def _seconds(function: Callable[[], None]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


if __name__ == "__main__":
    main()
