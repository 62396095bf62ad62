"""What pictures are wanted: prompts with options of their own, from text or JSON, and the products that ``--sweep`` makes of them.

An option's name here is that of `visiontk.adapters.generate_types.Request`; JSON lines use the same names.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import loras
from . import seeds as seed_lists
from .errors import ItemError, UsageError
from .records import Record, decode

Options = dict[str, Any]

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Order:
    """One prompt and what it says itself; what it leaves out is as `Defaults` have it.

    Attributes:
        prompt: None in a record that has none.
        options: of a picture, by name.
        seeds, count: which pictures: a list, or so many from the first seed on.
        init, mask: file names; a mask may also be the key of a record's objects (``segment#2``), or COCO RLE.
        where, text: the line that it comes from, in words and as it is; empty for the command line.
        record: the keys of the piped record that it stands in.
    """

    prompt: str | None
    options: Options = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    count: int | None = None
    init: str | None = None
    mask: str | dict[str, Any] | None = None
    where: str = ""
    text: str = ""
    record: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Defaults:
    """What the command line says for all prompts. ``first`` is the seed where none is named."""

    options: Options = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    count: int | None = None
    first: int = 0
    sweeps: tuple[Sweep, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """An option with the values that are tried."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Wanted:
    """One picture. ``swept`` has the values that its sweeps gave it, the seed among them where it was swept."""

    prompt: str
    seed: int
    options: Options
    swept: Options


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON lines have them: a size is ``"512x768"``, LoRAs are a list of strings. What is None is left out."""
    return {name: _SAID[name](value) if name in _SAID else value for name, value in options.items() if value is not None}


def pictures(order: Order, defaults: Defaults) -> Iterator[Wanted]:
    """Every picture of an order: for each combination of swept values, the seeds in their order.

    Raises:
        UsageError: it has no prompt, names what is swept, or a number beside a list of seeds.
    """
    if order.prompt is None:
        raise UsageError('there is no "prompt"; give the record one, or name prompts on the command line')
    prompt = checked_text(order.prompt, "the prompt")
    own = {*order.options, *(["seed"] if order.seeds or order.count else [])}
    twice = next((sweep.name for sweep in defaults.sweeps if sweep.name in own), None)
    if twice:
        raise UsageError(f"{twice} is swept, and given here as well; leave one of them out")
    wanted = _seeds(order, defaults)
    for combination in product(defaults.sweeps):
        options = {**defaults.options, **combination, **order.options}
        swept_seed = options.pop("seed", None)
        for seed in wanted if swept_seed is None else (swept_seed,):
            yield Wanted(prompt, seed, options, combination)


def product(sweeps: Sequence[Sweep]) -> Iterator[Options]:
    """Each combination of the swept values, the last sweep's changing fastest; one empty one where nothing is swept."""
    names = [sweep.name for sweep in sweeps]
    return (dict(zip(names, values, strict=True)) for values in itertools.product(*(sweep.values for sweep in sweeps)))


def count(order: Order, defaults: Defaults) -> int:
    """How many pictures an order comes to; 1 where it is wrong, as it then has one line that says so."""
    try:
        several = 1 if any(sweep.name == "seed" for sweep in defaults.sweeps) else len(_seeds(order, defaults))
        return several * math.prod(len(sweep.values) for sweep in defaults.sweeps)
    except UsageError:
        return 1


def _seeds(order: Order, defaults: Defaults) -> Sequence[int]:
    seeds, number = order.seeds, order.count
    if seeds is None:
        seeds, number = defaults.seeds, number or defaults.count
    elif len(seeds) == 1:
        number = number or defaults.count
    check_seeds(seeds, number)
    first, *more = seeds or (defaults.first,)
    return (first, *more) if number is None else range(first, first + number)


def check_seeds(seeds: tuple[int, ...] | None, number: int | None) -> None:
    """Raise UsageError for a number of pictures beside a list of seeds."""
    if seeds and len(seeds) > 1 and number is not None:
        raise UsageError(f"{len(seeds)} seeds make {len(seeds)} pictures, and {number} were asked for; give the list or the number")


# --- text on the command line


def parse_sweeps(texts: Sequence[str]) -> tuple[Sweep, ...]:
    """The sweeps of ``--sweep NAME=VALUE,VALUE`` options. Raises UsageError."""
    sweeps = tuple(map(_sweep, texts))
    names = [sweep.name for sweep in sweeps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--sweep {twice} stands there twice; put its values into one list: --sweep {twice}=VALUE,VALUE")
    return sweeps


def _sweep(text: str) -> Sweep:
    name, equals, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in _SWEPT or not equals:
        raise UsageError(f"--sweep {text}: write NAME=VALUE,VALUE with one of {', '.join(_SWEPT)}")
    try:
        if name == "seed":
            return Sweep(name, seed_lists.parse(listed))
        values = tuple(_SWEPT[name](part.strip()) for part in listed.split(","))
    except UsageError as error:
        raise UsageError(f"--sweep {text}: {error}") from error
    if len(set(values)) < len(values):
        raise UsageError(f"--sweep {text}: a value stands there twice, and the picture is the same; name it once")
    return Sweep(name, values)


def _word(text: str) -> str:
    if not text:
        raise UsageError("a value is missing between the commas; leave the comma out")
    return text


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is no number; write one such as 7.5') from error
    return checked_number(number)


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f'"{text}" is no whole number; write one such as 20')
    return int(text)


def _lora(text: str) -> tuple[loras.Lora, ...]:
    return () if text == "none" else loras.parse([_word(text)])


_SWEPT: dict[str, Callable[[str], Any]] = {
    "steps": _whole,
    "guidance": _number,
    "strength": _number,
    "clip_skip": _whole,
    "scheduler": _word,
    "size": seed_lists.parse_size,
    "lora": _lora,
    "seed": seed_lists.parse,
}


def checked_number(number: float, name: str = "it") -> float:
    """The number. Raises UsageError for NaN and infinities."""
    if not math.isfinite(number):
        raise UsageError(f"{name} is {number}; write a finite number")
    return number


def checked_text(text: str, name: str, *, empty: bool = False) -> str:
    """The text. Raises UsageError where there is none, unless it may be ``empty``, or it cannot be written as UTF-8."""
    if not text.strip() and not empty:
        raise UsageError(f"{name} is empty; say what the picture should show")
    if _SURROGATE.search(text):
        raise UsageError(f"{name} is not UTF-8; save or type it as UTF-8")
    return text


# --- lines of a file or a pipe


def read_line(line: str, where: str, *, piped: bool = False) -> Order:
    """The order of one line: text is a prompt, and what begins with ``{`` is JSON with a prompt and options.

    ``piped``: the line is a record, whose other keys are another stage's and stay as they are. Elsewhere an unknown key is an error.

    Raises:
        ItemError: ``bad_record``, it is not JSON, or a value is not of its type; the message names ``where``.
    """
    try:
        if not line.lstrip().startswith("{"):
            return Order(checked_text(line, "the prompt"), where=where, text=line)
        entry = decode(line.encode("utf-8", "surrogatepass"))
        unknown = next((key for key in entry if key not in _KEYS), None)
        if unknown is not None and not piped:
            raise UsageError(f'"{unknown}" is no option; there are {", ".join(_KEYS)}')
        return replace(from_record(entry, where, piped=piped), text=line)
    except ItemError as error:
        raise ItemError("bad_record", f"{where}: {error.message}") from error
    except UsageError as error:
        raise ItemError("bad_record", f"{where}: {error}") from error


def from_record(entry: Record, where: str, *, piped: bool = False) -> Order:
    """The order that a record's keys make; the prompt may be missing where it is ``piped``. Raises UsageError."""
    found = {key: _KEYS[key](entry[key]) for key in _KEYS if entry.get(key) is not None}
    if "prompt" not in found and not piped:
        raise UsageError('there is no "prompt"; write {"prompt": "..."}')
    options = {name: found[name] for name in OPTIONS if name in found}
    order = Order(found.get("prompt"), options, found.get("seed"), found.get("n"), found.get("init"), found.get("mask"), where)
    check_seeds(order.seeds, order.count)
    return replace(order, record=entry) if piped else order


def _json_text(name: str, *, empty: bool = False) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise UsageError(f'"{name}" is {_shown(value)} and not a string; write it in quotes')
        return checked_text(value, f'"{name}"', empty=empty)

    return read


def _json_whole(name: str, least: int = 0) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value < 10**9:
            raise UsageError(f'"{name}" is {_shown(value)} and not a whole number from {least} on; write one such as 20')
        return value

    return read


def _json_number(name: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f'"{name}" is {_shown(value)} and not a number; write one such as 7.5')
        try:
            return checked_number(float(value), f'"{name}"')
        except OverflowError as error:
            raise UsageError(f'"{name}" is larger than any number here; write one such as 7.5') from error

    return read


def _json_size(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        return seed_lists.parse_size(value)
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int and 0 < side < 10**6 for side in value):
        return value[0], value[1]
    raise UsageError(f'"size" is {_shown(value)}; write "512x768", or [width, height]')


def _json_seeds(value: Any) -> tuple[int, ...]:
    if type(value) is int and 0 <= value <= seed_lists.LARGEST:
        return (value,)
    if isinstance(value, str):
        return seed_lists.parse(value)
    raise UsageError(f'"seed" is {_shown(value)}; write a whole number from 0 on, or a list such as "1,2,10-20"')


def _json_file(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f'"init" or "mask" is {_shown(value)} and not the name of a file; write it in quotes')
    return value


def _json_mask(value: Any) -> str | dict[str, Any]:
    return value if isinstance(value, dict) and {"size", "counts"} <= value.keys() else _json_file(value)


def _json_loras(value: Any) -> tuple[loras.Lora, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f'"lora" is {_shown(value)}; write "ID:WEIGHT", a list of such, or [] for none')
    return loras.parse(texts)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


_KEYS: dict[str, Callable[[Any], Any]] = {
    "prompt": _json_text("prompt"),
    "negative": _json_text("negative", empty=True),
    "seed": _json_seeds,
    "n": _json_whole("n", 1),
    "steps": _json_whole("steps", 1),
    "guidance": _json_number("guidance"),
    "size": _json_size,
    "scheduler": _json_text("scheduler"),
    "clip_skip": _json_whole("clip_skip"),
    "lora": _json_loras,
    "strength": _json_number("strength"),
    "init": _json_file,
    "mask": _json_mask,
}
# Those of a picture, and not of which pictures.
OPTIONS = ("negative", "steps", "guidance", "size", "scheduler", "clip_skip", "lora", "strength")
_SAID: dict[str, Callable[[Any], Any]] = {"size": lambda size: "x".join(map(str, size)), "lora": lambda several: list(map(str, several))}
