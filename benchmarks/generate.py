"""Speed and memory of text to image, side by side with a bare diffusers loop in one run: ``python -m benchmarks.generate``.

Prints Markdown, one table per topic; docs/benchmarks.md keeps a run.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

from visiontk.runtime import Runtime

from .report import Table, machine

TOPICS = ("speed", "cold", "memory", "large")
FEW, MANY = 8, 32


def main() -> None:
    """Measure what was asked for and print each table as soon as it is there. Without a GPU the large shapes are left out."""
    options = _options()
    print(f"{machine(options.device).removesuffix('.')}; diffusers {version('diffusers')}.", flush=True)
    has_gpu = Runtime(device=options.device).start().device.type == "cuda"
    for topic in options.only or [topic for topic in TOPICS if has_gpu or topic != "large"]:
        for table in _tables(topic, options):
            print(f"\n{table.markdown()}", end="", flush=True)


def _tables(topic: str, options: argparse.Namespace) -> list[Table]:
    runtime = Runtime(device=options.device, dtype=options.dtype, batch_size=options.batch_size)
    if topic == "speed":
        from . import generate_speed

        return [generate_speed.table(runtime, MANY, options.steps, options.rounds)]
    if topic == "cold":
        from . import generate_cold

        return [generate_cold.table(runtime, options.steps, options.rounds)]
    if topic == "memory":
        from . import generate_memory

        return [generate_memory.table(runtime, FEW, MANY)]
    from . import generate_large

    return [generate_large.table(runtime, shape, options.rounds, options.scale) for shape in options.shape or generate_large.SHAPES]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures at once, of both sides (default: 8)")
    parser.add_argument("--steps", type=int, default=8, metavar="N", help="of denoising, of both sides (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--only", action="append", choices=TOPICS, metavar="TOPIC", help=f"one of {', '.join(TOPICS)}; may be repeated")
    parser.add_argument("--shape", action="append", choices=("sdxl", "sd3"), help="of the large ones, for a GPU; may be repeated")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="divide the large shapes by N, for a trial without a GPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
