"""From inputs to lines: pictures and videos through a segmenter, in their order, each answered as soon as it is known."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from visiontk import stream
from visiontk.errors import DeviceError, ItemError, OutOfMemory, UsageError
from visiontk.prompts import Prompt
from visiontk.records import Item, Record
from visiontk.resume import Held

from . import running, segment_prompts
from .segment_clip_files import ClipFiles
from .segment_outputs import Artefacts, Seen
from .segment_prompts import Prompts, Span
from .segment_rows import Rows
from .segment_tracking import Job, Tracked, no_frame, no_start, track

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.segment import Everything, ObjectMask, Segmenter
    from visiontk.media.clips import Clip
    from visiontk.media.video import VideoFrame

Outcome = stream.Outcome[Record]

FRAMES_AHEAD = 16


@dataclass
class Run:
    """What all inputs share.

    Attributes:
        key: where the results stand in the record.
        options: those that decide the answers beside the prompts, as lines say them.
        everything, every: how ``auto`` looks for everything, and on each how many-th frame of a video.
        artefacts: what is written beside the lines.
        held: the lines that a stopped run left.
        rows: which of them are of pictures that were the frames of a video.
        workers: threads that decode pictures.
        count: items so far, those of the stopped run with them.
    """

    key: str
    options: Record
    segmenter: Segmenter
    prompts: Prompts
    everything: Everything
    every: int | None
    artefacts: Artefacts
    held: Held
    rows: Rows
    stats: stream.Stats
    workers: int
    count: int = 0

    def outcomes(self, items: Iterable[Item[Image | Clip]]) -> Iterator[Outcome]:
        """One outcome per picture and per frame of a video; its result is what stands under the stage's key.

        A video that fails in the middle gives the frames so far, then one outcome with the error. Pictures are decoded ahead on several
        threads, the frames of a video on one.
        """
        from visiontk.media.clips import Clip

        loaded: Iterator[stream.Outcome[Any]] = stream.run(items, _itself, list, batch_size=1, workers=self.workers)
        with closing(loaded), _memory():  # type: ignore[type-var]
            for one in loaded:
                if isinstance(one.result, Clip):
                    with closing(self._clip(one.item, one.result)) as answers:  # or what fails in closing it is lost
                        for answer in answers:
                            yield self._counted(answer)
                elif one.result is None:
                    yield self._counted(stream.Outcome(one.item, error=one.error))
                else:
                    yield self._counted(self._picture(one.item, one.result))

    def _counted(self, outcome: Outcome) -> Outcome:
        self.count += 1
        self.stats.count(outcome)
        self.artefacts.naming.settle()
        return outcome

    def _picture(self, item: Item[Any], image: Image) -> Outcome:
        begun = time.perf_counter()
        try:
            found, texts = self.prompts.of_picture(item.record)
            wanted = segment_prompts.resolve(found, image.width, image.height)
            objects = self.segmenter.image(image, wanted) if wanted else []
            if segment_prompts.auto_frame(found) is not None:
                objects += _further(self.segmenter.everything(image, self.everything), objects)
            seconds = time.perf_counter() - begun
            seen = Seen(image, objects, [_value(one) for one in objects], wanted)
            files = self.artefacts.picture(item.record, self.count, seen)
        except ItemError as error:
            return stream.Outcome(item, error=error)
        return stream.Outcome(item, self._result({}, texts, seen, files, seconds))

    def _clip(self, item: Item[Any], clip: Clip) -> Generator[Outcome]:
        at = self.prompts.span.start
        come = False
        try:
            deque(running.own_key((Item(line, item.load) for line in clip.lines or ()), self.key), maxlen=0)
            found, texts = self.prompts.of_clip(item.record, clip.lines or ())
            if texts is None and clip.lines and self.prompts.texts != [segment_prompts.DEFAULT]:
                self.artefacts.warn(f"{item.where}: lines of it have prompts of their own, so that --prompt and --prompts are left out")
            if told := self.prompts.left_out(clip.lines or ()):
                self.artefacts.warn(f"{item.where}: {told}")
            held = self._held_lines(item, clip)
            if self._is_held(clip, found, held):
                return
            if held and not clip.again:
                self._check_live(item.record, len(held))
            _check_end(clip, found, self.prompts.span.start)
            with (
                _for_the_way_back(clip, self.prompts.span) as video,
                closing(stream.ahead(video.read(at), FRAMES_AHEAD)) as frames,  # type: ignore[type-var]
                closing(self._tracked(item, video, found, frames, len(held))) as answers,
            ):
                for tracked, seen, record, files in answers:
                    at, come = tracked.frame.index + 1, True
                    if not self.held.take(record):
                        about = {"frame": tracked.frame.index} if clip.lines else {}
                        yield stream.Outcome(Item(record, item.load), self._result(about, texts, seen, files, tracked.seconds))
        except ItemError as error:
            records = [{**item.record, **clip.line(at)} if come else item.record]
            if clip.lines and any(len(line) > 1 for line in clip.lines):  # what an earlier stage has found stands in them
                records = [{**item.record, **line} for line in clip.lines[at : self.prompts.span.stop]] or records
            for record in records:
                if not self.held.take(record):
                    yield stream.Outcome(Item(record, item.load), error=error)

    def _tracked(
        self, item: Item[Any], clip: Clip, found: Sequence[Prompt], frames: Iterator[VideoFrame], held: int
    ) -> Generator[tuple[Tracked, Seen, Record, Record]]:
        """Each frame with what was found, its record so far, and its files. Raises ItemError."""
        span = self.prompts.span
        first = next(frames, None)
        if first is None:
            raise no_start(span.start, pictures=clip.lines is not None)
        wanted = segment_prompts.resolve(found, first.image.width, first.image.height)
        job = Job(wanted, segment_prompts.auto_frame(found), self.everything, self.every, span, clip.lines is not None)
        frames = itertools.chain((first,), frames)
        del first  # or it would be kept for as long as the video takes
        last = job.turn if span.direction == "backward" and not job.nothing else span.end
        with ClipFiles(self.artefacts, item.record, self.count - held, clip, span.start, last, held) as files:
            for tracked in track(self.segmenter, frames, job, clip.beside, clip.enough):
                index, image = tracked.frame.index, tracked.frame.image
                here = [prompt for prompt in wanted if prompt.frame == index]
                seen = Seen(image, tracked.objects, [_value(one) for one in tracked.objects], here)
                record = {**item.record, **clip.line(index, tracked.frame.time)}
                yield tracked, seen, record, files.add(record, tracked.frame, seen)

    def _held_lines(self, item: Item[Any], clip: Clip) -> list[Record]:
        """What tells the lines of a video that a stopped run has answered, from its first frame on."""
        start, lines = self.prompts.span.start, list[Record]()
        while clip.lines is None or start + len(lines) < len(clip.lines):
            line = {**item.record, **clip.line(start + len(lines))}
            if not self.held.has(line):
                break
            if clip.lines is not None:
                self.rows.check_frame(line)
            self.rows.check_prompts(line)
            lines.append(line)
        return lines

    def _is_held(self, clip: Clip, found: Sequence[Prompt], lines: list[Record]) -> bool:
        """Whether these are all lines of a video, and it has its files, which come after the last line. Else it is tracked again."""
        span = self.prompts.span
        if not lines:
            return False
        last = max(prompt.frame for prompt in found) if span.direction == "backward" and found else span.end
        files = [file for line in lines for file in self.rows.files(line, self.held)]
        asked_for = last is not None and len(lines) > last - span.start
        if clip.again and (asked_for or not clip.holds(span.start + len(lines))) and not self.artefacts.lacks(files):
            for line in lines:
                self.held.take(line)
            return True
        self.artefacts.naming.free(files)
        return False

    def _check_live(self, record: Record, count: int) -> None:
        """What comes from a camera or a pipe may be something else than before, and frames that are held get no line. Raises UsageError."""
        from visiontk.media.video import is_camera

        if is_camera(record["path"]):
            raise UsageError(f"{record['path']} is a camera, which does not show again what it has shown; name a new file with --resume")
        first = "frame" if count == 1 else f"{count} frames"
        self.artefacts.warn(f"the first {first} of the pipe count as answered before; for another video name a new file with --resume")

    def _result(self, about: Record, texts: list[str] | None, seen: Seen, files: Record, seconds: float) -> Record:
        value: Record = {"model": self.segmenter.name, "revision": self.segmenter.revision, **about}
        if texts is not None:
            value["prompts"] = texts
        if self.options:
            value["options"] = self.options
        value["objects"] = seen.values
        if files:
            value["files"] = files
        return value | {"seconds": round(seconds, 6)}


def _itself(payload: Image | Clip) -> Image | Clip:
    return payload


def _for_the_way_back(clip: Clip, span: Span) -> AbstractContextManager[Clip]:
    """The clip so that what is tracked backward can be read again, where that is possible: a pipe's bytes are kept on disk."""
    return nullcontext(clip) if span.direction == "forward" or clip.taped is None else clip.taped()


def _check_end(clip: Clip, found: Sequence[Prompt], start: int) -> None:
    """Raise ItemError for a start or a prompt past the end, where that is known before the first frame is tracked."""
    late = max([start, *(prompt.frame for prompt in found)])
    most = clip.ends_before(late) if late else None
    if most is not None:
        pictures = clip.lines is not None
        raise no_start(start, pictures=pictures) if most <= start else no_frame(late, most - 1, pictures=pictures)


def _value(one: ObjectMask) -> Record:
    """An object as the record has it."""
    from visiontk.media.masks import area, box_of, encode_rle

    value: Record = {"id": one.object_id, "rle": encode_rle(one.mask), "box": box_of(one.mask), "area": area(one.mask)}
    return value | {"score": float(f"{one.score:.6g}"), "iou": float(f"{one.iou:.6g}")}


def _further(found: Sequence[ObjectMask], known: Sequence[ObjectMask]) -> list[ObjectMask]:
    """What ``auto`` found beside the objects that were prompted, numbered after them."""
    from visiontk.adapters.segment_auto import numbers_beside, unknown

    numbers = numbers_beside({one.object_id for one in known})
    return [replace(one, object_id=next(numbers)) for one in unknown(found, known)]


@contextmanager
def _memory() -> Iterator[None]:
    try:
        yield
    except OutOfMemory as error:
        raise DeviceError(f"one picture does not fit into memory ({error}); choose a smaller model or --device cpu") from error
