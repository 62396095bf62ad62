"""Seconds that a frame takes a LLaMA of the paper's shape: eager, compiled, and with weights of 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from visiontk.adapters.lvm import load
from visiontk.adapters.lvm_decoding import Decoder
from visiontk.runtime import Runtime

from .device_memory import free
from .lvm_decoding import GREEDY, copy_bandwidth, ours
from .report import Table, doing, middle, spread, target

LEAST = 60  # per cent of the bandwidth
Variant = tuple[str | None, bool]  # quantize, compile


def table(size: str, runtime: Runtime, variants: Sequence[Variant], contexts: Sequence[int], rounds: int) -> Table:
    """One sentence of random tokens of each context's length, and one frame after it; each variant is built once."""
    started = runtime.start()
    bandwidth = copy_bandwidth(started.device, rounds)
    rows, tokens = [], 0
    for quantize, compiled in variants:
        name = f"{quantize or started.dtype_name}, {'compiled' if compiled else 'eager'}"
        doing(f"{size} in {name}: {rounds} frames behind {' and '.join(map(str, contexts))} tokens")
        model = load(None, replace(runtime, compile=compiled), quantize=quantize, random_weights=size)
        tokens = model.frame_tokens
        for context in contexts:
            prompt = torch.randint(0, model.codes, (1, context), generator=torch.Generator().manual_seed(context)).to(started.device)
            seconds = [ours(model.decoder, prompt, tokens, GREEDY)[1] for _ in range(rounds + 1)][1:]  # the first compiles and warms up
            read = _read(model.decoder, context + tokens // 2)
            shares = [100 * read * (tokens - 1) / taken / bandwidth for taken in seconds]
            rates = [(tokens - 1) / taken for taken in seconds]
            whole = [taken * tokens / (tokens - 1) for taken in seconds]
            row = [f"{name}, behind {context}", middle(rates), middle(whole, 2), spread(whole, 2), f"{read / 1e9:.2f}"]
            rows.append([*row, middle(shares, 0) + " %", target(shares, least=LEAST) if compiled else ""])
        del model
        free()
    columns = ["", "tokens/s", "seconds a frame", "lowest to highest", "GB read a token", "of the bandwidth", "target, %"]
    note = (
        f"Random weights, {tokens} tokens a frame, the ones before it not counted; {rounds} rounds, medians. A token reads all weights, "
        "and the keys and values of those before it in the middle of the frame. Compiled, it reads those of the whole context, and its "
        "share counts them as no more. "
        f"Copying reads and writes {bandwidth / 1e9:.1f} GB/s."
    )
    return Table(f"A frame of the {size.upper()} shape on {started.device.type}", columns, rows, [note])


def _read(decoder: Decoder, positions: int) -> int:
    """Bytes that a token needs: all matrices that it is multiplied by (the embedding is looked up), and keys and values."""
    parameters = [value for name, value in decoder.network.named_parameters() if "embed_tokens" not in name]
    kept: int = decoder.shape.bytes(1, positions)
    return sum(_stored(value) for value in parameters) + kept


def _stored(value: torch.Tensor) -> int:
    """Bytes; a tensor of torchao is what it holds: whole numbers, and their scales."""
    if not hasattr(value, "__tensor_flatten__"):
        return value.numel() * value.element_size()
    names, _ = value.__tensor_flatten__()
    return sum(_stored(getattr(value, name)) for name in names)
