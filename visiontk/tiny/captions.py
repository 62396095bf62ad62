"""What is to be seen, in words that are true."""

from __future__ import annotations

from collections.abc import Sequence

from .colours import NAMES
from .sprites import things

_APART = 0.2  # of the canvas: closer middles are neither left nor above
_HIDDEN = 0.1  # share of the rear thing that the front one must cover to be called before it


def own_colour(label: int, recoloured: bool, tint: int) -> str | None:
    """The name of a thing's colour, where there is one to be named."""
    if tint >= 0:
        return NAMES[tint]
    return None if recoloured else things()[label].colour


def noun(label: int, colour: str | None) -> str:
    """``a red apple``, ``an apple``, ``a pair of blue jeans``."""
    thing = things()[label]
    if colour is None:
        return f"{thing.article} {thing.name}"
    coloured = f"{colour} {thing.name}"
    return with_article(coloured) if thing.article in ("a", "an") else f"{thing.article} {coloured}"


def with_article(words: str) -> str:
    """``an orange background``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def listed(nouns: Sequence[str]) -> str:
    """``a dog, a car and an apple``."""
    return " and ".join(filter(None, [", ".join(nouns[:-1]), nouns[-1]]))


def relation(first: tuple[float, float], second: tuple[float, float], covered: float) -> str:
    """How the first thing, which is the rear one, stands to the second; middles in shares of the canvas, ``covered`` the hidden share."""
    dx, dy = second[0] - first[0], second[1] - first[1]
    if covered > _HIDDEN:
        return "behind"
    if abs(dx) >= _APART and abs(dx) > 1.5 * abs(dy):
        return "left of" if dx > 0 else "right of"
    if abs(dy) >= _APART and abs(dy) > 1.5 * abs(dx):
        return "above" if dy > 0 else "below"
    return "and"


def caption(nouns: Sequence[str], middles: Sequence[tuple[float, float]], covered: Sequence[float], background: str) -> str:
    """One scene in words; the things from the back to the front."""
    if len(nouns) != 2:
        return f"{listed(nouns)} on {background}"
    return f"{nouns[0]} {relation(middles[0], middles[1], covered[0])} {nouns[1]} on {background}"
