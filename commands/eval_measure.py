"""The figures of a protocol over pairs of prediction and truth, as lines: one per object, and last their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visiontk.errors import UsageError
from visiontk.records import Record

from .eval_masks import Folders
from .eval_pairs import Pair
from .eval_view import six_digits

if TYPE_CHECKING:
    from visiontk.metrics.protocols import Statistics, Track

# The columns of each protocol's lines. The line of the mean counts "videos" or "images" and "objects" instead.
COLUMNS = {
    "davis2017": ["protocol", "video", "object", "frames", "J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay"],
    "sav": ["protocol", "video", "object", "frames", "J&F", "J", "F"],
    "miou": ["protocol", "image", "object", "IoU"],
}


@dataclass(frozen=True)
class Task:
    """A pair, and those of its frames that the protocol measures."""

    pair: Pair
    frames: list[str]


def plan(protocol: str, pairs: list[Pair]) -> list[Task]:
    """What is to be measured, checked before any work.

    Raises:
        UsageError: PRED lacks a frame; or a video has too few of them for the protocol.
    """
    from visiontk.metrics.protocols import between

    tasks = [Task(pair, pair.annotated if protocol == "miou" else list(between(pair.annotated))) for pair in pairs]
    for task in tasks:
        if not task.frames:
            count = f"{len(task.pair.annotated)} annotated frame{'s' if len(task.pair.annotated) > 1 else ''}"
            raise UsageError(
                f"{task.pair.video} has {count}, and {protocol} leaves out the first and the last; use --protocol miou for images"
            )
        task.pair.check(task.frames)
    return tasks


def results(protocol: str, tasks: list[Task], advance: Callable[[], None], warn: Callable[[str], None]) -> Iterator[Record]:
    """The lines, each as soon as it is known; ``advance`` is called for each frame.

    Raises:
        UsageError: masks of a frame cannot be compared; or no object counts.
    """
    yield from _images(tasks, advance) if protocol == "miou" else _videos(protocol, tasks, advance, warn)


def _videos(protocol: str, tasks: list[Task], advance: Callable[[], None], warn: Callable[[str], None]) -> Iterator[Record]:
    from visiontk.metrics.protocols import over_objects, statistics

    all_j: list[Statistics] = []
    all_f: list[Statistics] = []
    for task in tasks:
        tracks = _tracks(protocol, task, advance)
        if not tracks:
            what = "the first frame of the truth has" if protocol == "davis2017" else "the measured frames of the truth have"
            warn(f"left out {task.pair.name}: {what} nothing in it")
        for number, track in tracks.items():
            j, f = statistics(track.j), statistics(track.f)
            all_j.append(j)
            all_f.append(f)
            about = {"protocol": protocol, "video": task.pair.video, "object": number, "frames": len(track.j)}
            yield about | _figures(protocol, j, f)
    if not all_j:
        raise UsageError(f"GT has no object that {protocol} measures; is it the truth?")
    about = {"protocol": protocol, "videos": len({task.pair.video for task in tasks}), "objects": len(all_j)}
    yield about | _figures(protocol, over_objects(all_j), over_objects(all_f))


def _tracks(protocol: str, task: Task, advance: Callable[[], None]) -> dict[int, Track]:
    from visiontk.metrics.protocols import Davis2017, Sav

    evaluation = Davis2017(_davis_objects(task.pair)) if protocol == "davis2017" else Sav()
    for frame in task.frames:
        try:
            evaluation.add(*task.pair.masks(frame))
        except ValueError as error:
            raise UsageError(f"{task.pair.predicted.where(frame)}: {error}; davis2017 refuses that, sav leaves it out") from error
        advance()
    return evaluation.tracks()


def _davis_objects(pair: Pair) -> list[int]:
    from visiontk.metrics.protocols import davis_objects

    if isinstance(pair.truth, Folders) or pair.binary:
        return [1 if pair.only is None else pair.only]
    return list(davis_objects(pair.truth.map(pair.annotated[0])))


def _images(tasks: list[Task], advance: Callable[[], None]) -> Iterator[Record]:
    from visiontk.metrics.protocols import image_ious

    several = len({task.pair.video for task in tasks}) > 1
    found: list[float] = []
    images = set()
    for task in tasks:
        for frame in task.frames:
            image = f"{task.pair.video}/{frame}" if several else frame
            images.add(image)
            for number, iou in image_ious(*task.pair.masks(frame)).items():
                found.append(iou)
                yield {"protocol": "miou", "image": image, "object": number, "IoU": six_digits(iou)}
            advance()
    if not found:
        raise UsageError("GT has no object in any image; is it the truth?")
    yield {"protocol": "miou", "images": len(images), "objects": len(found), "mIoU": six_digits(sum(found) / len(found))}


def _figures(protocol: str, j: Statistics, f: Statistics) -> Record:
    """J, F and their mean; with what else the protocol says of each."""
    figures = {"J&F": (j.mean + f.mean) / 2}
    for name, of in (("J", j), ("F", f)):
        figures |= {name: of.mean, f"{name}_recall": of.recall, f"{name}_decay": of.decay}
    return {name: six_digits(value) for name, value in figures.items() if name in COLUMNS[protocol]}
