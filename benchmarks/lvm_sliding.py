"""Seconds of frames past the context: the oldest quarter dropped at once, beside all that is kept read anew for every frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from visiontk.adapters import lvm_sizes
from visiontk.adapters.lvm_sentences import Continuation

from .lvm_decoding import GREEDY, Material, theirs, wait
from .report import Table, doing, middle, ratios, spread


def table(material: Material, tokens: int, rounds: int) -> Table:
    """As many frames of so many tokens as there are from one sliding to the next, from where the context is full."""
    most = material.decoder.context // tokens
    count = most - most * 3 // 4
    prompt = torch.randint(0, lvm_sizes.CODES, (1, most - 1, tokens), generator=torch.Generator().manual_seed(0))
    prompt = prompt.to(material.started.device)
    doing(f"{count} frames of {tokens} tokens behind a context of {most}, in three ways; {rounds} rounds")
    ways: dict[str, Callable[[], Sequence[int]]] = {
        "transformers, read anew for every frame": lambda: _anew(prompt, count, lambda seen: theirs(material, seen.flatten(1), tokens)),
        "visiontk, read anew for every frame": lambda: _anew(prompt, count, lambda seen: _one(material, seen)),
        "visiontk, the oldest quarter dropped at once": lambda: _sliding(material, prompt, count),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    contexts: dict[str, Sequence[int]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            contexts[name] = way()
            wait(material.started.device)
            seconds[name].append((time.perf_counter() - begun) / count)
    first = next(iter(seconds.values()))
    rows = []
    for name, taken in seconds.items():
        gain = f"{median(ratios(first, taken)):.2f} x"
        rows.append([name, middle(taken, 2), spread(taken, 2), gain, f"{min(contexts[name])} to {max(contexts[name])}"])
    note = (
        f"{count} frames of {tokens} tokens, which is once around: the context of {most} frames is full every {count} frames. Whole "
        f"frames, with what is read before them; rounds by turns: {rounds}, medians."
    )
    columns = ["", "seconds a frame", "lowest to highest", "times as fast", "frames before it"]
    return Table(f"Frames past the context: {material.where}", columns, rows, [note])


def _anew(prompt: Tensor, count: int, make: Callable[[Tensor], Tensor]) -> list[int]:
    """``make`` the frame that follows int64 (1, frames, tokens), one frame dropped for each. Returns how many frames each saw."""
    seen = prompt
    for _ in range(count):
        seen = torch.cat([seen[:, 1:], make(seen).view(1, 1, -1)], dim=1)
    return [prompt.shape[1]] * count


def _one(material: Material, seen: Tensor) -> Tensor:
    making = Continuation(material.decoder, seen, 1, GREEDY)
    made = making.next(0).tokens
    making.close()
    return made


def _sliding(material: Material, prompt: Tensor, count: int) -> list[int]:
    """As the command does, from where it has just dropped a quarter. Returns how many frames each saw."""
    kept = prompt[:, -(prompt.shape[1] + 1 - count) :]
    making = Continuation(material.decoder, kept, 2 * count, GREEDY)
    found = [len(making.next(number).context) for number in range(count)]
    making.close()
    return found
