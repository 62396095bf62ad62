"""Speed of decoding visual sentences: ``python -m benchmarks.lvm``.

Prints Markdown tables; docs/benchmarks.md keeps a run. Where there is a GPU, frames of the 7B shape are timed on it too.
"""

from __future__ import annotations

import argparse

import torch

from visiontk.adapters.lvm_sizes import SHAPES
from visiontk.runtime import Runtime

from . import lvm_frames, lvm_sliding
from .lvm_decoding import Material, tables
from .report import doing, machine

TOPICS = ("decoding", "frames", "sliding")
ON_A_GPU = "7b"
FRAME, CONTEXT = 256, 4096  # tokens of the paper's models


def main() -> None:
    """Measure what was asked for and print each table as soon as it is there."""
    options = _options()
    runtime = Runtime(device=options.device, dtype=options.dtype, compile=options.compile, threads=options.threads)
    runtime.start()  # with the threads that are asked for
    print(machine(options.device) + "\n", flush=True)
    contexts = [int(context) for context in options.contexts.split(",")]
    if options.only == "frames":
        _frames(options.size, runtime, contexts, options.rounds)
        return
    _decoding(options, runtime, contexts)
    if options.only is None and torch.cuda.is_available():
        print(machine("cuda") + "\n", flush=True)
        _frames(ON_A_GPU, Runtime(device="cuda", dtype="bf16", compile=True), contexts, options.rounds)


def _decoding(options: argparse.Namespace, runtime: Runtime, contexts: list[int]) -> None:
    """Tokens a second beside transformers, and seconds of frames past the context."""
    doing(f"making a LLaMA of {options.size} with random weights")
    material = Material(options.size, runtime.start(), options.layers)
    with torch.inference_mode():
        if options.only != "sliding":
            for table in tables(material, contexts, options.tokens, options.rounds):
                print(table.markdown(), flush=True)
        if options.only != "decoding":
            rounds = options.rounds if options.only else 1  # each takes minutes, which the plain run has not for several
            print(lvm_sliding.table(material, FRAME, rounds).markdown(), flush=True)


def _frames(size: str, runtime: Runtime, contexts: list[int], rounds: int) -> None:
    """Seconds a frame: eager, with weights of 8 bits, and both compiled."""
    variants: list[lvm_frames.Variant] = [(None, False), ("int8", False)]
    if runtime.compile:
        variants += [(None, True), ("int8", True)]
    print(lvm_frames.table(size, runtime, variants, contexts, rounds).markdown(), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lvm", description=__doc__)
    parser.add_argument("--only", choices=TOPICS, help="tokens beside transformers, seconds a frame, or frames past the context")
    parser.add_argument("--size", choices=[*SHAPES], default="300m", help="shape of the paper (default: 300m)")
    parser.add_argument("--layers", type=int, metavar="N", help="of decoding and sliding: fewer layers, for a short run (default: all)")
    parser.add_argument("--contexts", default="256,2048", help="tokens of the prompts (default: 256,2048)")
    parser.add_argument(
        "--tokens",
        type=int,
        default=32,
        metavar="N",
        help="of decoding: tokens to make, a divisor of the contexts (default: 32)",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default: cpu)")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--compile", action="store_true", help="ours compiled; for frames, compiled as well as eager")
    options = parser.parse_args()
    for context in options.contexts.split(","):
        least = FRAME if options.only == "frames" else options.tokens
        if least < 2 or int(context) % least or int(context) + least > CONTEXT:
            parser.error(f"{least} tokens do not divide a context of {context}, or there is no room for them behind it")
    return options


if __name__ == "__main__":
    main()
