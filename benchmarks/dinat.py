"""Time and memory of the DiNAT-L backbone (kernel 11, as for ADE20K and COCO) on the CPU.

    python benchmarks/dinat.py [--sizes HxW ...] [--threads N] [--repeats N]

The weights are random: neither time nor memory depends on them. The median of the repeats counts, after one run that
warms up. Memory is the peak resident set of a pass above that of the loaded network, in a process of its own for each
line (Linux only); where it grows linearly with the image, its bytes a pixel are the same on every line.
"""

import argparse
import multiprocessing
import statistics
import time

import torch

from everymask.networks.backbones.dinat import Dinat, DinatConfig

DINAT_L = DinatConfig(
    embed_dim=192,
    heads=(6, 12, 24, 48),
    dilations=(
        (1, 20, 1),
        (1, 5, 1, 10),
        (1, 2, 1, 3, 1, 4, 1, 5, 1, 2, 1, 3, 1, 4, 1, 5, 1, 5),
        (1, 2, 1, 2, 1),
    ),
    kernel=11,
    mlp_ratio=2.0,
)
SIZES = ("640x640", "640x1280", "1280x1280")


def resident(field: str) -> int:
    """Bytes of a field of the kernel's report on this process: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


@torch.inference_mode()
def measure(height: int, width: int, dtype: torch.dtype, threads: int, repeats: int) -> tuple[float, int]:
    """Seconds of a pass, and its extra bytes at the peak."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = Dinat(DINAT_L).eval().to(dtype)
    network(torch.randn(1, 3, 64, 64, dtype=dtype))  # libraries allocate what they keep
    pixel_values = torch.randn(1, 3, height, width, dtype=dtype)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the peak counts from here
    before = resident("VmRSS")
    network(pixel_values)
    extra = resident("VmHWM") - before
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        network(pixel_values)
        times.append(time.perf_counter() - start)
    return statistics.median(times), extra


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"DiNAT-L, kernel {DINAT_L.kernel}, {arguments.threads} threads")
    print(f"{'size':>11} {'dtype':>9} | {'time':>8} {'memory':>8} | bytes a pixel")
    for size in arguments.sizes:
        height, width = (int(side) for side in size.split("x"))
        for dtype in (torch.float32, torch.bfloat16):
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
                seconds, extra = fresh.apply(measure, (height, width, dtype, arguments.threads, arguments.repeats))
            name = str(dtype).removeprefix("torch.")
            print(
                f"{size:>11} {name:>9} | {seconds:6.2f} s {extra / 1e6:5.0f} MB | {extra / (height * width):.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
