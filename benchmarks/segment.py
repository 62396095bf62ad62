"""Speed and memory of video segmentation, side by side with SAM 2's own predictor in one run: ``python -m benchmarks.segment``.

Prints Markdown, one table per topic; docs/benchmarks.md keeps a run.
"""

from __future__ import annotations

import argparse

from visiontk.runtime import Runtime

from .report import Table, machine

TOPICS = ("speed", "memory", "shapes")
FEW, MANY = 100, 3_000


def main() -> None:
    """Measure what was asked for and print each table as soon as it is there. Without a GPU SAM 2.1's four shapes are left out."""
    options = _options()
    print(machine(options.device), flush=True)
    has_gpu = Runtime(device=options.device).start().device.type != "cpu"
    for topic in options.only or [topic for topic in TOPICS if has_gpu or topic != "shapes"]:
        print(f"\n{_table(topic, options).markdown()}", end="", flush=True)


def _table(topic: str, options: argparse.Namespace) -> Table:
    if topic == "memory":
        from . import segment_memory

        return segment_memory.table(FEW, MANY)
    runtime = Runtime(device=options.device, dtype=options.dtype)
    if topic == "shapes":
        from . import segment_shapes

        return segment_shapes.table(runtime, options.shape or [*segment_shapes.PUBLISHED], options.frames or 200, options.rounds)
    from . import segment_speed

    return segment_speed.table(runtime, options.frames, options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segment", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument(
        "--frames", type=int, metavar="N", help="frames a round (default: 100 of tiny-sam2; 4 at 1024 pixels, 200 on a GPU)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--only", action="append", choices=TOPICS, metavar="TOPIC", help=f"one of {', '.join(TOPICS)}; may be repeated")
    parser.add_argument("--shape", action="append", choices=("t", "s", "b+", "l"), help="of SAM 2.1, for a GPU; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    main()
