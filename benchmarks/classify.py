"""Speed and memory of `visiontk classify`, side by side with other tools in one run: ``python -m benchmarks.classify``.

Prints Markdown, one table per topic; docs/benchmarks.md keeps a run. Takes about ten minutes on two slow cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from visiontk.runtime import Runtime

from .report import Table, machine

TOPICS = ("throughput", "decoding", "memory", "startup")
FEW, MANY, FULL = 100, 5_000, 100_000


def main() -> None:
    """Measure what was asked for and print each table as soon as it is there."""
    options = _options()
    print(machine(options.device), flush=True)
    for topic in options.only or TOPICS:
        for table in _tables(topic, options):
            print(f"\n{table.markdown()}", end="", flush=True)


def _tables(topic: str, options: argparse.Namespace) -> Iterator[Table]:
    """A topic's tables. Each topic imports what it needs: start-up and memory are other processes' and need no torch here."""
    runtime = Runtime(device=options.device, dtype=options.dtype)
    if topic == "throughput":
        from . import throughput

        yield throughput.large(runtime, options.images, options.rounds)
        yield throughput.small(runtime, options.images, options.rounds)
    elif topic == "decoding":
        from . import decoding

        yield decoding.speed(runtime, options.images, options.rounds)
        yield decoding.agreement(runtime, options.images)
    elif topic == "memory":
        from . import memory

        yield memory.table(FEW, FULL if options.full else MANY)
    else:
        from . import startup

        yield startup.table(max(options.rounds, 7))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classify", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--images", type=int, metavar="N", help="images a round (default: 48, or 240 with the small model; all on a GPU)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3; start-up takes at least 7)")
    parser.add_argument("--only", action="append", choices=TOPICS, metavar="TOPIC", help=f"one of {', '.join(TOPICS)}; may be repeated")
    parser.add_argument("--full", action="store_true", help=f"peak memory over {FULL:,} paths and not {MANY:,}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
