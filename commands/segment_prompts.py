"""What is to be segmented in an input: the record's own prompts, those of the command line, or the middle of the picture."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk import prompts as grammar
from visiontk.errors import ItemError, UsageError
from visiontk.prompts import Prompt
from visiontk.records import Record
from visiontk.resume import Held

from . import running

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visiontk.adapters.segment import ObjectPrompt

DEFAULT = "point"
USUAL_DTYPE = "fp32"  # lines say which other one it was
_SAYS_FRAME = re.compile(r"@\d+(#\d+)?\s*$")
_BINARY = ([1], [255])  # the values of a mask that shows one object and does not number it
_VOID = 255
_MOST_NAMED = 8  # frames in a message
_MOST_GREYS = 64  # a grey picture with more values has soft edges, and does not number objects


@dataclass(frozen=True)
class Span:
    """Which frames are tracked, and which way: ``forward`` from the first prompted frame, ``backward`` from the last, or ``both``.

    ``start`` and ``end`` are the first and the last frame, inclusive; no end is that of the video.
    """

    direction: str = "forward"
    start: int = 0
    end: int | None = None

    @property
    def first(self) -> int:
        """The frame of prompts that name none: the one where tracking starts."""
        return self.end if self.direction == "backward" and self.end is not None else self.start

    @property
    def stop(self) -> int | None:
        """The first frame after it; None where it has no end."""
        return None if self.end is None else self.end + 1

    @property
    def tracked(self) -> str:
        """In words, for messages."""
        return f"frames {self.start} to {'the last' if self.end is None else self.end} are tracked; see --start and --end"

    def has(self, frame: int) -> bool:
        return self.start <= frame and (self.end is None or frame <= self.end)

    def check(self, found: Sequence[Prompt]) -> None:
        """Raise UsageError for prompts outside of it, and for ``auto`` where it cannot go."""
        for prompt in found:
            if not self.has(prompt.frame):
                raise UsageError(f'the prompt "{prompt.text}" is on frame {prompt.frame}, and {self.tracked}')
        starts = self._starts(found)
        for prompt in starts:
            if not _shows(prompt):
                what = f"says where object {prompt.object_id} is not, and nothing says where it is"
                cure = f"add a point on it, as in point:X,Y-X,Y{self._or_correct(prompt, starts)}"
                raise UsageError(f'the prompt "{prompt.text}" {what}; {cure}')
        seeds = [prompt.frame for prompt in found if prompt.auto]
        if len(seeds) > 1 and self.direction == "forward":
            cure = f"give it once, with --auto-every {seeds[1] - seeds[0]} to look again on the way"
            raise UsageError(f"auto starts the tracking, and is on the frames {_some(seeds)}; {cure}")
        others = {prompt.frame for prompt in found}
        if seeds and (seeds[-1] > min(others) if self.direction == "forward" else len(others) > 1):
            raise UsageError("auto starts the tracking; give no prompts on earlier frames, and with --direction none on other frames")

    def check_turn(self, found: Sequence[Prompt]) -> None:
        """Raise UsageError where tracking backward begins on the first frame already, so that there is nothing to go back to."""
        if self.direction == "backward" and self.end is None and all(prompt.frame == self.start for prompt in found):
            first = "the first frame" if self.start == 0 else f"frame {self.start}, where --start is"
            raise UsageError(f"--direction backward goes back from the prompted frame, and that is {first}; name one with @FRAME or --end")

    def _starts(self, found: Sequence[Prompt]) -> list[Prompt]:
        """Of each object the prompt that is met first."""
        backward = self.direction == "backward"
        ordered = sorted((prompt for prompt in found if not prompt.auto), key=lambda prompt: prompt.frame, reverse=not backward)
        return list({prompt.object_id: prompt for prompt in ordered}.values())

    def _or_correct(self, prompt: Prompt, starts: Sequence[Prompt]) -> str:
        """The other cure of a prompt that is a new object only because it names none: the number of one that is there already."""
        way = -1 if self.direction == "backward" else 1
        there = [one.object_id for one in starts if _shows(one) and way * one.frame <= way * prompt.frame]
        if not prompt.numbered or not there:
            return ""
        first = min(number for number in there if number is not None)
        given = f"end it with #{first}" if prompt.text.lstrip().startswith("point") else f'give it "object": {first}'
        return f", or {given} to correct object {first}"


@dataclass(frozen=True)
class Prompts:
    """The prompts of a run. ``texts`` is what a record says of them, ``digest`` what tells the contents of files among them."""

    own: list[Prompt]
    texts: list[str]
    span: Span
    digest: str | None = None

    def of(self, record: Record) -> tuple[list[Prompt], list[str] | None]:
        """The prompts that count for a record, and what its line says of them; nothing, where they stand in it already.

        Raises:
            ItemError: ``bad_prompt``, the record's own make no sense.
        """
        if "prompts" not in record:
            return self.own, self.texts
        return self._joined(lambda: self._of_record(record)), None

    def _joined(self, found: Callable[[], list[Prompt]]) -> list[Prompt]:
        """Those of records, numbered and seen to fit together. Raises ItemError."""
        try:
            joined = _join(found())
            self.span.check(joined)
        except UsageError as error:
            raise ItemError("bad_prompt", str(error)) from error
        return joined

    def _of_record(self, record: Record) -> list[Prompt]:
        return _from_json(record["prompts"], "the record's prompts", self.span.first, loose=True)

    def of_clip(self, record: Record, lines: Sequence[Record] = ()) -> tuple[list[Prompt], list[str] | None]:
        """As `of`, for a video, whose frames may have ``lines`` with prompts of their own. Raises UsageError as `Span.check_turn` does."""
        if any("prompts" in line for line in lines):
            return self._joined(lambda: self._of_lines(lines)), None
        found, texts = self.of(record)
        if texts is not None:
            self.span.check_turn(found)
        return found, texts

    def lines(self, frames: int) -> int:
        """How many lines a video of so many frames comes to by the prompts of the command line; one where it is too short for them."""
        last = max((prompt.frame for prompt in self.own), default=self.span.start)
        if max(last, self.span.start) >= frames:
            return 1
        stop = last + 1 if self.span.direction == "backward" and self.own else self.span.stop
        return min(frames, frames if stop is None else stop) - self.span.start

    def left_out(self, lines: Sequence[Record]) -> str | None:
        """What is to be said of the prompts of lines that are not tracked."""
        frames = [number for number, line in enumerate(lines) if line.get("prompts") and not self.span.has(number)]
        if not frames:
            return None
        whose = f"of the line on frame {frames[0]}" if len(frames) == 1 else f"of {len(frames)} lines, on the frames {_some(frames)},"
        return f"the prompts {whose} are left out, as {self.span.tracked}"

    def _of_lines(self, lines: Sequence[Record]) -> list[Prompt]:
        """What lines ask for, each on its own frame, of those that are tracked. Each is about a picture: its frame 0, or its own."""
        asked: list[Prompt] = []
        for number, line in enumerate(lines[self.span.start : self.span.stop], self.span.start):
            found = _from_json(line.get("prompts", []), f"the prompts of {line['path']}", number, loose=True)
            here = (0, line.get("frame"))  # of the picture, and of the video that it is a frame of
            asked += [replace(prompt, frame=number if prompt.frame in here else prompt.frame) for prompt in found]
        return asked

    def of_picture(self, record: Record) -> tuple[list[Prompt], list[str] | None]:
        """As `of`, for a single picture, which has one frame."""
        try:
            found, texts = (self._of_record(record), None) if "prompts" in record else (self.own, self.texts)
            own = {self.span.first, record.get("frame")}
            for prompt in found:
                if prompt.frame not in own:
                    raise ItemError("no_frame", f'the prompt "{prompt.text}" is on frame {prompt.frame}, and this is a single picture')
            # One may be on frame 0 by default, and another on the record's own: both are here.
            joined = _join([replace(prompt, frame=0) for prompt in found])
            Span().check(joined)
        except UsageError as error:
            raise ItemError("bad_prompt", str(error)) from error
        return joined, texts


def read(texts: Sequence[str], file: Path | None, span: Span) -> Prompts:
    """The prompts of ``--prompt`` and ``--prompts FILE.json``; the middle of the picture where there are none.

    Raises:
        UsageError: they are not of the grammar, contradict each other, name a mask that cannot be read or a frame that is not tracked.
    """
    said = list(texts) or ([] if file else [DEFAULT])
    found = [_on_frame(grammar.read(text), span.first, said=bool(_SAYS_FRAME.search(text))) for text in said]
    loaded = _load(file) if file else None
    if file:
        found += _from_json(loaded, str(file), span.first)
    try:
        joined = _join(found)
        for prompt in joined:
            _check_number(prompt)
    except ItemError as error:
        raise UsageError(error.message) from error
    span.check(joined)
    return Prompts(joined, [*said, *([str(file)] if file else [])], span, _digest(joined, loaded))


def _digest(found: Sequence[Prompt], loaded: object) -> str | None:
    """16 hexadecimal digits of what was read from files: what ``--prompts`` holds, and masks; None where there are none."""
    masks = sorted({prompt.mask for prompt in found if isinstance(prompt.mask, str)})
    if loaded is None and not masks:
        return None
    contents = hashlib.sha256(json.dumps(loaded).encode())
    for mask in masks:
        contents.update(_index_map(mask).tobytes())
    return contents.hexdigest()[:16]


def same(held: Held, asked: Prompts, options: Record, file: Path | None) -> None:
    """Raise UsageError where ``--resume`` would put the answers to other prompts, or with other ``options``, into one file."""
    if held.prompts is not None and held.prompts != asked.texts:
        before, now = (", ".join(texts) for texts in (held.prompts, asked.texts))
        raise UsageError(f"{file} was written with other prompts ({before}) than this run has ({now}); give the same, or name a new file")
    others = {name: value for name, value in held.options.items() if name != "dtype"}  # as is known when the model is there
    changed = [] if held.model is None else [name for name in {**others, **options} if others.get(name) != options.get(name)]
    if "prompts_digest" in changed:
        raise UsageError(f"the files of prompts hold something else than when {file} was written; take those again, or name a new file")
    if changed:
        was, now = (", ".join(_option(name, some.get(name)) for name in changed) for some in (others, options))
        raise UsageError(f"{file} was written with {was} and this run has {now}; give the same, or name a new file")


def same_dtype(held: Held, now: str, file: Path | None) -> None:
    """Raise UsageError where ``--resume`` would put what was computed in two types of numbers into one file, and into one video's masks."""
    running.same_dtype(None if held.model is None else held.options.get("dtype", USUAL_DTYPE), now, file)


def _option(name: str, value: Any) -> str:
    option = f"--{name.replace('_', '-')}"
    return f"no {option}" if value is None else f"{option} {value}"


def resolve(found: Sequence[Prompt], width: int, height: int) -> list[ObjectPrompt]:
    """Prompts in pixels of a picture of that size; ``auto`` is left out.

    Raises:
        ItemError: ``bad_prompt``, one lies outside, is turned inside out, or is a mask of another size.
    """
    try:
        return [_resolve(prompt, width, height) for prompt in found if not prompt.auto]
    except UsageError as error:
        raise ItemError("bad_prompt", str(error)) from error


def auto_frame(found: Sequence[Prompt]) -> int | None:
    """The frame on which everything is looked for, if it is."""
    return next((prompt.frame for prompt in found if prompt.auto), None)


def _resolve(prompt: Prompt, width: int, height: int) -> ObjectPrompt:
    from visiontk.adapters.segment import ObjectPrompt

    assert prompt.object_id is not None, "numbered when they were joined"
    if prompt.mask is not None:
        mask = _mask(prompt)
        if mask.shape != (height, width):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise UsageError(
                f'the prompt "{prompt.text}" is a mask of {size} pixels, and the picture has {width}x{height}; give one of that size'
            )
        return ObjectPrompt(prompt.object_id, prompt.frame, mask=mask)
    points, labels, box = grammar.resolve(prompt, width, height)
    return ObjectPrompt(prompt.object_id, prompt.frame, tuple(points), tuple(labels), box)


def _mask(prompt: Prompt) -> NDArray[np.bool_]:
    from visiontk.media.masks import decode_rle

    if not isinstance(prompt.mask, str):
        try:
            decoded = decode_rle(prompt.mask)
        except ItemError as error:
            raise UsageError(f'the prompt "{prompt.text}": {error.message}') from error
        if not decoded.any():
            raise UsageError(f'the mask of the prompt "{prompt.text}" is empty; give one that shows something')
        return decoded
    _check_number(prompt)
    found = _index_map(prompt.mask)
    # An index map shows this object under its number; a file without that number shows one object, whatever its values.
    wanted = found == prompt.object_id
    return wanted if wanted.any() else found > 0


def _indices(file: str) -> Sequence[int]:
    """The ids in a mask's file; none where it is binary."""
    values = _values(file)
    if not values:
        raise ItemError("bad_prompt", f"the mask {file} is empty; give one that shows something")
    return [] if values in _BINARY else values


def _check_number(prompt: Prompt) -> None:
    """Raise for a file of several objects that lacks the one which is asked for. A file of one object shows it under any number."""
    if not isinstance(prompt.mask, str):
        return
    values = _values(prompt.mask)
    if not values:
        raise UsageError(f"the mask {prompt.mask} is empty; give one that shows something")
    if len(values) > 1 and prompt.object_id not in values:
        some = ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")
        raise UsageError(f'the prompt "{prompt.text}" is of object {prompt.object_id}, and {prompt.mask} has {some}; choose one of these')


@functools.lru_cache(maxsize=4)
def _values(file: str) -> list[int]:
    """The values of a mask's file but for 0, rising. Raises ItemError where they are shades of grey."""
    import numpy as np

    found = np.unique(_index_map(file)).tolist()
    values: list[int] = [value for value in found if value]
    if (len(found) > _MOST_GREYS or (_VOID in values and len(values) > 1)) and _mode(file) == "L":
        what = f"the mask {file} has {len(found)} different values"
        raise ItemError("bad_prompt", f"{what}; an indexed mask has one for each object, a binary one 0 and 255: threshold it first")
    return values


@functools.lru_cache(maxsize=4)
def _index_map(file: str) -> NDArray[np.uint16]:
    """Object numbers. Of a map with a palette, as DAVIS and VOC have them, 255 beside other numbers is void and left out."""
    from visiontk.media.masks import read_index_map

    found = read_index_map(file)
    if found.max() == _VOID and (found % _VOID).any() and _mode(file) == "P":
        found = found % found.dtype.type(_VOID)
    return found


def _mode(file: str) -> str:
    from PIL import Image

    with Image.open(file) as picture:
        return picture.mode


def _join(found: list[Prompt]) -> list[Prompt]:
    return grammar.join(found, _indices)


def _on_frame(prompt: Prompt, first: int, *, said: bool) -> Prompt:
    return prompt if said else replace(prompt, frame=first)


def _from_json(value: object, where: str, first: int, *, loose: bool = False) -> list[Prompt]:
    found = grammar.read_json(value, where, loose=loose)
    assert isinstance(value, list)
    return [_on_frame(prompt, first, said="frame" in entry) for prompt, entry in zip(found, value, strict=True)]


def _shows(prompt: Prompt) -> bool:
    """Whether it says where its object is, and not only where it is not."""
    return not prompt.points or prompt.box is not None or any(point.positive for point in prompt.points)


def _some(frames: Sequence[int]) -> str:
    return ", ".join(map(str, frames[:_MOST_NAMED])) + (", ..." if len(frames) > _MOST_NAMED else "")


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"the prompts {file} cannot be read ({error.strerror or error}); name a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f'{file} is no JSON ({error}); write [{{"points": [[X, Y]]}}, ...]') from error
