"""Tracking through a clip, forward, backward or both ways, in constant memory; what runs backward waits on disk."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visiontk.errors import ItemError
from visiontk.records import Record

from .segment_prompts import Span

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.segment import Auto, Everything, FrameMasks, ObjectMask, ObjectPrompt, Segmenter
    from visiontk.media.spool import Backlog, Spool
    from visiontk.media.video import VideoFrame

# The model tells videos of fewer frames from longer ones, so that many are looked at before it runs backward.
LOOK_AHEAD = 16


@dataclass(frozen=True)
class Tracked:
    """One frame with its objects, by id, and how long the model took."""

    frame: VideoFrame
    objects: list[ObjectMask]
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """What is to be tracked.

    Attributes:
        auto_frame: where everything is looked for, as ``everything`` says, and then on each ``every``-th.
        pictures: whether each frame is a file of its own.
    """

    prompts: Sequence[ObjectPrompt]
    auto_frame: int | None
    everything: Everything
    every: int | None
    span: Span
    pictures: bool = False

    @property
    def auto(self) -> Auto | None:
        from visiontk.adapters.segment import Auto

        return None if self.auto_frame is None else Auto(self.everything, self.every)

    @property
    def nothing(self) -> bool:
        """Whether nothing is looked for; then there is neither a first frame nor a turn."""
        return not self.prompts and self.auto_frame is None

    @property
    def first(self) -> int:
        """The first prompted frame."""
        return min([prompt.frame for prompt in self.prompts] + ([] if self.auto_frame is None else [self.auto_frame]))

    @property
    def turn(self) -> int:
        """The frame where tracking backward starts: the last prompted one; with both ways, the last on which an object is new."""
        frames = [prompt.frame for prompt in (self.prompts if self.span.direction == "backward" else self.starts())]
        return max(frames + ([] if self.auto_frame is None else [self.auto_frame]))

    @property
    def one_way(self) -> bool:
        """Whether no frame is tracked backward."""
        span = self.span
        return self.nothing or span.direction == "forward" or (span.direction == "both" and self.turn == span.start)

    def starts(self) -> list[ObjectPrompt]:
        """Of each object the first prompt."""
        by_object = {prompt.object_id: prompt for prompt in sorted(self.prompts, key=lambda prompt: -prompt.frame)}
        return list(by_object.values())


class Feed:
    """Frames on their way to a model that reads ahead.

    Those that it has not answered yet wait here. An error ends them early and is raised by `check`, when the model has answered all.
    """

    def __init__(self, frames: Iterator[VideoFrame], end: int | None = None, *, pictures: bool = False) -> None:
        self._frames, self._end, self._pictures = frames, end, pictures
        self._waiting: dict[int, VideoFrame] = {}
        self.error: ItemError | None = None
        self._size: tuple[int, int] | None = None
        self.last: int | None = None
        self.waited = 0.0  # seconds until frames were there

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        begun = time.perf_counter()
        if self.error or (self._end is not None and self.last == self._end):
            raise StopIteration
        try:
            frame = next(self._frames)
            self._check_size(frame.image)
        except ItemError as error:
            self.error = error
            raise StopIteration from error
        finally:
            self.waited += time.perf_counter() - begun
        self.last = frame.index
        return frame

    def pairs(self) -> Iterator[tuple[int, Image]]:
        """As the model takes them."""
        for frame in self:
            self._waiting[frame.index] = frame
            yield frame.index, frame.image

    def answered(self, index: int) -> VideoFrame:
        return self._waiting.pop(index)

    def check(self, job: Job) -> None:
        """Raise ItemError for what ended the frames early, and for prompts on frames that did not come."""
        if self.error:
            raise self.error
        late = [prompt.frame for prompt in job.prompts] + ([] if job.auto_frame is None else [job.auto_frame])
        if late and (self.last is None or max(late) > self.last):
            raise no_frame(max(late), self.last, pictures=job.pictures)

    def _check_size(self, image: Image) -> None:
        self._size = self._size or image.size
        if image.size != self._size:
            was, now = (f"{width}x{height}" for width, height in (self._size, image.size))
            cure = "make all of one size, or take them one by one with --no-sequence" if self._pictures else "encode it anew at one size"
            raise ItemError("broken", f"the frame has {now} pixels and the first one {was}; {cure}")


def no_frame(frame: int, last: int | None, *, pictures: bool) -> ItemError:
    """Says that a video has no such frame as a prompt is on, and which is its last; None where there is none."""
    ends = "there is none" if last is None else f"the last one is {last}"
    cure = 'use an earlier frame: @FRAME, "frame" in JSON, or --end with --direction backward'
    return ItemError("no_frame", f"a prompt is on frame {frame}, and {ends}{_counted_so(pictures)}; {cure}")


def no_start(start: int, *, pictures: bool) -> ItemError:
    """Says that a video has no such frame as tracking is to start on."""
    return ItemError("no_frame", f"the video ends before frame {start}{_counted_so(pictures)}; choose another --start")


def _counted_so(pictures: bool) -> str:
    return ", as frames count from 0 whatever their names say" if pictures else ""


def track(
    segmenter: Segmenter,
    frames: Iterator[VideoFrame],
    job: Job,
    again: Callable[[int], Iterator[VideoFrame]] | None = None,
    enough: Callable[[], None] = lambda: None,
) -> Iterator[Tracked]:
    """Every frame of the span, in rising order, each as soon as it is known.

    Forward: every frame from the first one on, without objects up to the first prompted one. Backward: from the first frame to the last
    prompted one. Both: every frame, an object before its first prompt as tracked backward from there. Without prompts, as a stage before
    gives them that found nothing: every frame, without objects.

    Args:
        again: reads the video once more, from a frame on, while ``frames`` is still open; None where that cannot be done, and all frames
            that are to be tracked backward wait on disk at once.
        enough: told that no frame after those that ``frames`` has given will be read again.

    Raises:
        ItemError: a frame cannot be read (after those before it), or a prompt's frame never came.
        OutputError: the temporary files cannot be written.
    """
    frames, length = _counted(frames, job)
    feed = Feed(frames, job.span.end, pictures=job.pictures)
    if job.one_way:
        enough()
    if job.nothing:
        yield from (Tracked(frame, []) for frame in feed)
        feed.check(job)
        return
    if job.one_way:
        yield from _forward(segmenter, feed, job, length)
        feed.check(job)
        return

    from visiontk.media.spool import Backlog, Spool

    with Backlog(job.span.start, again) as kept, Spool() as found:
        for frame in feed:
            kept.keep(frame)
            if frame.index >= max(job.turn, LOOK_AHEAD - 1):
                break
        enough()
        if feed.last is None or feed.last < job.turn:
            feed.check(job)
        assert feed.last is not None, "the check has told that there is no frame"
        _backward(segmenter, kept, found, job, length or feed.last + 1)
        if job.span.direction == "backward":
            yield from (_read(found, job, frame) for frame in kept.rising(len(found)))
            return
        once_more = Feed(itertools.chain(kept.rising(feed.last + 1 - job.span.start), feed), job.span.end)
        for tracked in _forward(segmenter, once_more, job, length):
            yield _merged(tracked, _read(found, job, tracked.frame)) if tracked.frame.index <= job.turn else tracked
        if once_more.error:
            raise once_more.error
        feed.check(job)


def _counted(frames: Iterator[VideoFrame], job: Job) -> tuple[Iterator[VideoFrame], int | None]:
    """The frames, and how many the video has where the model would take the span for all of it; `LOOK_AHEAD` are as many as more are.

    An end among the first frames changes no answer before it: a few frames more are read, and not answered.
    """
    from visiontk.adapters.segment_video import LookAhead

    end = job.span.end
    if end is None or end >= LOOK_AHEAD - 1 or job.nothing or (job.span.direction == "forward" and end <= job.first):
        return frames, None
    ahead = LookAhead(frames)
    return ahead, job.span.start + ahead.count(LOOK_AHEAD - job.span.start)


def _forward(segmenter: Segmenter, feed: Feed, job: Job, length: int | None) -> Iterator[Tracked]:
    for number in range(job.span.start, job.first):
        if (frame := next(feed, None)) is None:
            return
        assert frame.index == number
        yield Tracked(frame, [])
    for answer, seconds in _timed(segmenter.video(feed.pairs(), job.prompts, auto=job.auto, length=length), feed):
        yield Tracked(feed.answered(answer.frame), answer.objects, seconds)


def _backward(segmenter: Segmenter, kept: Backlog, found: Spool, job: Job, length: int) -> None:
    """Track from the turn down to the start of the span; what is found comes into a spool in falling order."""
    prompts = job.prompts if job.span.direction == "backward" else job.starts()
    feed = Feed(kept.falling(job.turn))
    answers = segmenter.video(feed.pairs(), prompts, reverse=True, auto=job.auto, length=length)
    for answer, seconds in _timed(answers, feed):
        feed.answered(answer.frame)
        found.append(_write(answer.objects, seconds))
    if feed.error:
        raise feed.error


def _timed(answers: Iterator[FrameMasks], feed: Feed) -> Iterator[tuple[FrameMasks, float]]:
    """Answers with the seconds that the model took for each, without the waiting for frames. A prompt that never came is left to `Feed`."""
    while True:
        begun, waited = time.perf_counter(), feed.waited
        try:
            answer = next(answers, None)
        except ItemError as error:
            if error.kind == "no_frame":
                return
            raise
        if answer is None:
            return
        yield answer, max(0.0, time.perf_counter() - begun - (feed.waited - waited))


def _merged(forward: Tracked, backward: Tracked) -> Tracked:
    objects = {one.object_id: one for one in [*backward.objects, *forward.objects]}
    ordered = [objects[number] for number in sorted(objects)]
    return Tracked(forward.frame, ordered, forward.seconds + backward.seconds)


def _write(objects: Sequence[ObjectMask], seconds: float) -> bytes:
    from visiontk.media.masks import encode_rle

    rows: list[Record] = [{**vars(one), "mask": encode_rle(one.mask)} for one in objects]
    return json.dumps([seconds, rows]).encode()


def _read(found: Spool, job: Job, frame: VideoFrame) -> Tracked:
    """What was found of a frame on the way backward, which began at the turn."""
    from visiontk.adapters.segment import ObjectMask
    from visiontk.media.masks import decode_rle

    seconds, rows = json.loads(found[job.turn - frame.index])
    return Tracked(frame, [ObjectMask(**{**row, "mask": decode_rle(row["mask"])}) for row in rows], seconds)
