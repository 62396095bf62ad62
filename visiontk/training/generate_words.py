"""The words of the tiny world, and the byte-pair encoding that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from visiontk.tiny import world

TOKENS = 32  # of a prompt, the two around it included
VOCABULARY = 2048
START, END = "<|startoftext|>", "<|endoftext|>"
_CAPTIONS = 2000
_SEED = -1  # the seeds of runs are not negative


@cache
def captions(count: int = _CAPTIONS) -> Sequence[str]:
    """Sentences of the world with one to three things, tinted ones among them."""
    found: list[str] = []
    for first in range(0, count, 500):
        augment = world.Augment(tint=0.4)
        found += world.render_scenes(_SEED, range(first, first + 500), size=16, objects=(1, 3), augment=augment).captions
    return tuple(found)


def tokenizer() -> Any:
    """A ``CLIPTokenizer`` in which each word of the world is one token; other words are spelled out."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bpe: Any = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", fuse_unk=False))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False, min_frequency=1
    )
    words = [name for name in world.names() for _ in range(100)]
    bpe.train_from_iterator([*captions(), *words], trainer)
    vocabulary: dict[str, int] = {}
    for token in [*sorted(letters), *(f"{letter}</w>" for letter in sorted(letters))]:
        vocabulary.setdefault(token, len(vocabulary))
    for token, _ in sorted(bpe.get_vocab().items(), key=lambda pair: pair[1]):
        vocabulary.setdefault(token, len(vocabulary))
    for token in (START, END):
        vocabulary[token] = len(vocabulary)
    merges = [tuple(pair) for pair in _merges(bpe)]
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=START, eos_token=END, pad_token=END, unk_token=END, model_max_length=TOKENS
    )


def _merges(bpe: Any) -> list[list[str]]:
    import json

    found = json.loads(bpe.to_str())["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in found]
