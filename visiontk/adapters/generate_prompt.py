"""What of a prompt a model reads, and with how many layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def cut(pipeline: Any, prompt: str) -> str | None:
    """The end of a prompt that no text encoder of a pipeline reads; None where one of them reads all of it.

    Encoders that a prompt reaches inside a conversation (a language model with a chat template) have a little less room than is counted
    here: the template takes its share.
    """
    ends = [_end(tokenizer, window, prompt) for tokenizer, window in _windows(pipeline)]
    if not ends or None in ends:
        return None
    return prompt[max(end for end in ends if end is not None) :].strip() or None


@contextmanager
def skipping(pipeline: Any) -> Iterator[None]:
    """Let ``clip_skip`` work: Stable Diffusion looks for the last norm in a part of CLIP that transformers 5.6 made the whole of it.

    Only while the pipeline runs, as loading a LoRA goes by which of the two it is.
    """
    text = getattr(pipeline, "text_encoder", None)
    if text is None or hasattr(text, "text_model") or not hasattr(text, "final_layer_norm"):
        yield
        return
    text.__dict__["text_model"] = text  # not as a module, which would hold itself
    try:
        yield
    finally:
        del text.__dict__["text_model"]


def _windows(pipeline: Any) -> list[tuple[Any, int]]:
    """Each tokenizer and how many tokens its encoder is given, special ones included."""
    asked = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
    limit = asked.default if asked is not None and isinstance(asked.default, int) else None
    found = []
    for name, part in sorted(pipeline.components.items()):
        if not name.startswith("tokenizer") or part is None or not hasattr(part, "model_max_length"):
            continue
        own = part.model_max_length
        # CLIP has as many positions as its tokenizer says; for others that number is a wish, and the pipeline's own counts.
        window = own if "CLIP" in type(part).__name__ or limit is None else limit
        if window < 1_000_000:  # tokenizers that do not know say 10^30
            found.append((part, window))
    return found


def _end(tokenizer: Any, window: int, prompt: str) -> int | None:
    """Where in the prompt, in characters, the first token begins that does not fit; None where all fit."""
    room = window - tokenizer.num_special_tokens_to_add()
    spans = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return int(spans[room][0]) if len(spans) > room else None
