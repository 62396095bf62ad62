"""Running a LLaMA over tokens: a prompt in one pass, then token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from visiontk.errors import DeviceError, first_line

from .lvm_blocks import Block, Matrix, normalise
from .lvm_cache import ATTENTION, FixedKeysValues, KeysValues, Shape

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

# Positions of which logits are made at once: 8192 codes of 512 positions are 16 MB.
SCORED = 512
# Compiled steps that are kept: one for each number of rows, and one more where their cache was made anew.
GRAPHS = 64


def compile_mode(device: torch.device) -> str | None:
    """How ``torch.compile`` makes a step: where there are CUDA graphs, as one of them."""
    return "reduce-overhead" if device.type == "cuda" else None


class Decoder:
    """A LLaMA that speaks codes alone.

    Attributes:
        context: positions that it can see.
        codes: how many of the first tokens of its vocabulary are codes; there are logits for no others.
        shape: of its caches.
    """

    def __init__(self, network: LlamaForCausalLM, codes: int, *, compile: bool = False, quantized: bool = False) -> None:
        self.network: Any = network
        network.set_attn_implementation(ATTENTION)
        # A compiler joins products by itself, and weights of 8 bits have products of their own.
        plain = not compile and not quantized
        self._blocks = [Block(layer, number) for number, layer in enumerate(network.model.layers)] if plain else None
        self._head: Any = Matrix((network.lm_head,)) if plain else network.lm_head
        parameter = network.model.embed_tokens.weight
        self.device, self.codes = parameter.device, codes
        self.context = int(network.config.max_position_embeddings)
        self.shape = Shape.of(network.config, parameter.dtype, self.device)
        self._places = torch.arange(self.context, device=self.device)
        example = torch.empty(0, dtype=parameter.dtype, device=self.device)
        with torch.inference_mode():
            self._cosines, self._sines = self.network.model.rotary_emb(example, self._places[None])
        self._fixed: FixedKeysValues | None = None
        self._compiled: Any = None
        if compile:
            self._compiled = torch.compile(self._fixed_step, mode=compile_mode(self.device), fullgraph=True, dynamic=False)

    @property
    def compiled(self) -> bool:
        return self._compiled is not None

    def cache(self, rows: int, positions: int) -> KeysValues:
        """An empty cache. Compiled, its capacity is the whole context, so that the graph fits every sentence."""
        if not self.compiled:
            return KeysValues.empty(self.shape, rows, positions)
        kept, self._fixed = self._fixed, None
        if kept is not None and kept.rows == rows:
            kept.clear()
            return kept
        del kept  # its memory may be what the new one needs
        return FixedKeysValues.empty(self.shape, rows, self.context)

    def give_back(self, cache: KeysValues) -> None:
        """Keep a cache for the next caller: another one would have to be compiled for anew."""
        if isinstance(cache, FixedKeysValues):
            self._fixed = cache

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, cache: KeysValues) -> Tensor:
        """Read tokens, int64 (rows, n), into an empty cache. Returns the logits of what comes next, (rows, codes)."""
        assert cache.length == 0, "a prompt is read from its beginning"
        hidden = self._hidden(tokens, slice(0, tokens.shape[1]), cache)
        cache.length = tokens.shape[1]
        return self._logits(hidden[:, -1])

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: KeysValues, prefix: KeysValues | None = None) -> Tensor:
        """Read one token of each row, int64 (rows,). Returns the logits of what comes next, (rows, codes), good until the next step.

        Args:
            prefix: what the rows of a sentence have in common, before what is in the cache.
        """
        place = cache.length + (prefix.length if prefix is not None else 0)
        if isinstance(cache, FixedKeysValues):
            logits = self._step_compiled(tokens, self._places[place : place + 1], cache)
        else:
            logits = self._logits(self._hidden(tokens[:, None], slice(place, place + 1), cache, prefix=prefix)[:, -1])
        cache.length += 1
        return logits

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """Negative log-likelihood of each token but the first given those before it: int64 (n,) gives float32 (n - 1,)."""
        hidden = self._hidden(tokens[None], slice(0, len(tokens)), None)[0, :-1]
        parts = [
            nn.functional.cross_entropy(self._logits(some).float(), next_, reduction="none")
            for some, next_ in zip(torch.split(hidden, SCORED), torch.split(tokens[1:], SCORED), strict=True)
        ]
        return torch.cat(parts) if parts else torch.empty(0, device=self.device)

    def _step_compiled(self, tokens: Tensor, position: Tensor, cache: FixedKeysValues) -> Tensor:
        cache.position = position
        try:
            with torch._dynamo.config.patch(recompile_limit=GRAPHS):
                logits: Tensor = self._compiled(tokens, position, cache)
            return logits
        except Exception as error:
            if type(error).__module__.startswith("torch._"):
                raise DeviceError(f"torch.compile failed ({first_line(error)}); install a C++ compiler, or leave out --compile") from error
            raise
        finally:
            cache.position = None

    def _fixed_step(self, tokens: Tensor, position: Tensor, cache: FixedKeysValues) -> Tensor:
        seen = self._places <= position
        return self._logits(self._hidden(tokens[:, None], position, cache, mask=seen[None, None, None])[:, -1])

    def _hidden(
        self,
        tokens: Tensor,
        places: slice | Tensor,
        cache: KeysValues | None,
        *,
        mask: Tensor | None = None,
        prefix: KeysValues | None = None,
    ) -> Tensor:
        """The last block's output, normalised: (rows, n, hidden). Without a mask, n tokens see each other causally."""
        model = self.network.model
        hidden = model.embed_tokens(tokens)
        rotation = (self._cosines[:, places], self._sines[:, places])
        if self._blocks is not None:
            for own in self._blocks:
                hidden = own(hidden, rotation, cache, prefix)
            return normalise(hidden, model.norm)
        for block in model.layers:
            hidden = block(hidden, attention_mask=mask, position_embeddings=rotation, past_key_values=cache, prefix=prefix)
        normalised: Tensor = model.norm(hidden)
        return normalised

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits
