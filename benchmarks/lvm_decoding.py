"""Tokens a second of a LLaMA of the paper's shape: ours beside transformers' generate, one candidate beside four."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from visiontk.adapters import lvm_sizes, lvm_weights
from visiontk.adapters.generate_quiet import importing, quiet
from visiontk.adapters.lvm_decoding import Decoder
from visiontk.adapters.lvm_sentences import Continuation
from visiontk.adapters.lvm_types import Sampling
from visiontk.runtime import Started

from .report import Table, doing, middle, ratios, spread, target

LEAST, MOST = 1.2, 1.6
CANDIDATES = 4
GREEDY, ONE, FOUR = Sampling(greedy=True), Sampling(), Sampling(candidates=CANDIDATES)
SPEED = (
    "context",
    "transformers, tokens/s",
    "visiontk, tokens/s",
    "lowest to highest",
    "times as fast",
    "target",
    "of the bandwidth",
    "tokens",
)
SHARE = ("context", "one, ms a token", f"{CANDIDATES}, ms a token of each", "time of one", "target")


class Material:
    """The same random weights for both: transformers' network as it is, and ours, with copies of what is joined or ordered anew."""

    def __init__(self, size: str, started: Started, layers: int | None = None) -> None:
        with importing():
            from transformers import LlamaConfig, LlamaForCausalLM

        arguments = lvm_sizes.llama(size)
        torch.manual_seed(0)
        config = LlamaConfig(**arguments | ({"num_hidden_layers": layers} if layers else {}))
        with quiet():
            self.theirs: Any = LlamaForCausalLM._from_config(config, dtype=started.dtype).eval().requires_grad_(False)
            self.theirs.to(started.device)
            with torch.device("meta"):
                ours = LlamaForCausalLM._from_config(config, dtype=started.dtype)
            ours.load_state_dict(self.theirs.state_dict(), assign=True)
            ours.model.rotary_emb = self.theirs.model.rotary_emb
        lvm_weights.keep_codes(ours, lvm_sizes.CODES)
        self.started, self.decoder = started, Decoder(ours.eval(), lvm_sizes.CODES, compile=started.compile)
        matrices = [parameter for name, parameter in ours.named_parameters() if "embed_tokens" not in name]
        self.weights = sum(parameter.numel() * parameter.element_size() for parameter in matrices)
        self.parameters = sum(parameter.numel() for parameter in self.theirs.parameters())

    @property
    def where(self) -> str:
        """What runs on what, for titles."""
        return f"{self.parameters / 1e6:.0f} M parameters, random weights, {self.started.dtype_name} on {self.started.device.type}"

    def read(self, context: int, tokens: int) -> int:
        """Bytes that one token takes: all matrices, and the keys and values of the middle of the run."""
        taken: int = self.weights + self.decoder.shape.bytes(1, context + tokens // 2)
        return taken


def wait(device: torch.device) -> None:
    """Until what was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def copy_bandwidth(device: torch.device, rounds: int) -> float:
    """Bytes read and written a second by copying 512 MB, the best of the rounds."""
    source = torch.ones(128 * 2**20, device=device)
    goal = torch.empty_like(source)
    best = 0.0
    for _ in range(max(3, rounds)):
        begun = time.perf_counter()
        goal.copy_(source)
        wait(device)
        best = max(best, 2 * source.numel() * source.element_size() / (time.perf_counter() - begun))
    return best


def tables(material: Material, contexts: list[int], tokens: int, rounds: int) -> list[Table]:
    """Both tables, measured by turns."""
    bandwidth = copy_bandwidth(material.started.device, rounds)
    speed, share = [], []
    for context in contexts:
        doing(f"{tokens} tokens behind {context}: transformers, ours, ours with {CANDIDATES} candidates; {rounds} rounds")
        taken = _by_turns(material, context, tokens, rounds)
        speed.append([f"{context}", *_speed(material, context, tokens, taken, bandwidth)])
        share.append([f"{context}", *_share(tokens, taken)])
    where = material.where + (", compiled" if material.decoder.compiled else "")
    note = (
        f"{tokens} tokens behind a prompt of the context's length, the prompt itself not counted; {rounds} rounds by turns, medians. "
        "Ours are a frame as the command makes it, with the likelihood of each token: greedily beside transformers, by draws where "
        "candidates are compared. "
        f"Copying reads and writes {bandwidth / 1e9:.1f} GB/s here; a token reads {material.weights / 1e9:.2f} GB of weights and "
        f"{material.decoder.shape.bytes(1, 1) / 1e3:.0f} kB of keys and values a position."
    )
    return [
        Table(f"Visual sentences token by token: {where}", SPEED, speed, [note]),
        Table(f"{CANDIDATES} candidates at once: {where}", SHARE, share),
    ]


@dataclass(frozen=True)
class Taken:
    """Seconds from the first token to the last, of each round. ``equal``: greedily, both made the same tokens."""

    theirs: list[float]
    greedy: list[float]
    one: list[float]
    four: list[float]
    equal: bool


def _by_turns(material: Material, context: int, tokens: int, rounds: int) -> Taken:
    prompt = torch.randint(0, lvm_sizes.CODES, (1, context), generator=torch.Generator().manual_seed(context))
    prompt = prompt.to(material.started.device)
    runs: dict[str, Callable[[], tuple[Tensor, float]]] = {
        "theirs": lambda: _theirs(material, prompt, tokens),
        "greedy": lambda: ours(material.decoder, prompt, tokens, GREEDY),
        "one": lambda: ours(material.decoder, prompt, tokens, ONE),
        "four": lambda: ours(material.decoder, prompt, tokens, FOUR),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, run in runs.items():
            found[name], taken = run()
            if number:  # the first round warms up
                seconds[name].append(taken)
    return Taken(**seconds, equal=torch.equal(found["theirs"], found["greedy"]))


def _speed(material: Material, context: int, tokens: int, taken: Taken, bandwidth: float) -> list[str]:
    """A row of `SPEED`, without the context."""
    gain = ratios(taken.theirs, taken.greedy)
    rates = [(tokens - 1) / seconds for seconds in taken.greedy]
    return [
        middle((tokens - 1) / seconds for seconds in taken.theirs),
        middle(rates),
        spread(rates),
        f"{median(gain):.2f} x",
        target(gain, least=LEAST),
        f"{100 * material.read(context, tokens) * median(rates) / bandwidth:.0f} %",
        "equal" if taken.equal else "not equal",
    ]


def _share(tokens: int, taken: Taken) -> list[str]:
    """A row of `SHARE`, without the context."""
    cost = ratios(taken.four, taken.one)
    per_token = ([seconds * 1000 / (tokens - 1) for seconds in of_one] for of_one in (taken.one, taken.four))
    return [*map(middle, per_token), f"{median(cost):.2f} x", target(cost, most=MOST)]


def _theirs(material: Material, prompt: Tensor, tokens: int) -> tuple[Tensor, float]:
    """What they make: the tokens, and the seconds from the first to the last."""
    times: list[float] = []

    def note() -> None:
        wait(material.started.device)
        times.append(time.perf_counter())

    found = theirs(material, prompt, tokens, note)
    return found, times[-1] - times[0]


def theirs(material: Material, prompt: Tensor, tokens: int, note: Callable[[], None] = lambda: None) -> Tensor:
    """The codes that transformers' generate makes greedily with its growing cache, int64 (tokens,). ``note`` is called at each."""

    def codes_alone(_: Tensor, scores: Tensor) -> Tensor:
        note()
        scores[:, lvm_sizes.CODES :] = -torch.inf
        return scores

    options = {"do_sample": False, "max_new_tokens": tokens, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    found: Tensor = material.theirs.generate(prompt, logits_processor=[codes_alone], **options)
    return found[0, prompt.shape[1] :]


@torch.inference_mode()
def ours(decoder: Decoder, prompt: Tensor, tokens: int, sampling: Sampling) -> tuple[Tensor, float]:
    """As the adapter makes a frame of so many tokens: those of the first candidate, and the seconds from the first to the last."""
    begun: list[float] = []
    step = decoder.step

    def noted(*arguments: Any) -> Tensor:
        if not begun:
            wait(decoder.device)
            begun.append(time.perf_counter())
        return step(*arguments)

    making = Continuation(decoder, prompt.view(1, -1, tokens), 1, sampling)
    with patch.object(decoder, "step", noted):
        made = making.next(0)
    wait(decoder.device)
    taken = time.perf_counter() - begun[0]
    making.close()
    return made.tokens[0], taken
