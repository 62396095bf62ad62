"""What a prompt names: one of a classifier's labels, the colour of a background."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_WORDS = re.compile(r"\w+")
_PLAIN = re.compile(r"\bon an? (?:plain )?(\w+) background\b", re.IGNORECASE)
_BEHIND = re.compile(r"\bon an? ((\w+ ){1,2}background|\w+ \w+ and \w+ background|background from \w+ to \w+)\b", re.IGNORECASE)
_SPELLED = {"gray": "grey"}

Words = tuple[str, ...]


class Names:
    """The names of a classifier's labels, to be found in prompts.

    A label may hold several names with commas between them, as those of ImageNet do; one name may stand for several labels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._known: dict[Words, set[int]] = {}
        for index, label in enumerate(labels):
            for name in label.split(","):
                for form in _forms(_words(name)):
                    self._known.setdefault(form, set()).add(index)
        self._longest = max(map(len, self._known), default=0)

    def find(self, prompt: str) -> set[int]:
        """The labels that a prompt names, by index.

        Names are whole words in any case, in the singular or a regular plural. The longest come first, and a word counts once: a stop sign
        is no sign. What a background is called names nothing: an orange background is no orange.
        """
        words = list(_words(_BEHIND.sub(" ", prompt)))
        found: set[int] = set()
        for length in range(min(self._longest, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                labels = self._known.get(tuple(words[start : start + length]))
                if labels:
                    found |= labels
                    words[start : start + length] = [""] * length
        return found


def background(prompt: str, colours: Collection[str]) -> str | None:
    """The colour of ``... on a COLOUR background``, where it is one of ``colours``."""
    found = _PLAIN.search(prompt)
    name = found[1].lower() if found else ""
    name = _SPELLED.get(name, name)
    return name if name in colours else None


def _words(text: str) -> Words:
    return tuple(_WORDS.findall(text.lower()))


def _forms(name: Words) -> set[Words]:
    """The name and its regular plural."""
    if not name:
        return set()
    *before, last = name
    if re.search(r"(s|x|z|ch|sh)$", last):
        plural = f"{last}es"
    elif re.search(r"[^aeiou]y$", last):
        plural = f"{last[:-1]}ies"
    else:
        plural = f"{last}s"
    return {name, (*before, plural)}
