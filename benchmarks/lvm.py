"""Speed of decoding visual sentences. ``python -m benchmarks.lvm`` prints Markdown tables; ``--help`` lists what can be smaller."""

from __future__ import annotations

import argparse

import torch

from visiontk.adapters.lvm_sizes import SHAPES
from visiontk.runtime import Runtime

from .lvm_decoding import Material, tables
from .report import doing, machine


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=[*SHAPES], default="300m", help="shape of the paper (default: 300m)")
    parser.add_argument("--layers", type=int, help="fewer layers, for a short run (default: all)")
    parser.add_argument("--contexts", default="256,2048", help="tokens of the prompts (default: 256,2048)")
    parser.add_argument("--tokens", type=int, default=33, help="tokens to make in each run (default: 33)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    started = Runtime(device=options.device, dtype=options.dtype, compile=options.compile, threads=options.threads).start()
    print(machine(options.device) + "\n")
    doing(f"making a LLaMA of {options.size} with random weights")
    material = Material(options.size, started, options.layers)
    with torch.inference_mode():
        for table in tables(material, [int(context) for context in options.contexts.split(",")], options.tokens, options.rounds):
            print(table.markdown())


if __name__ == "__main__":
    _main()
