"""From what a user names to items: paths, folders, globs, pipes of paths, of records or of bytes, videos, URLs."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from PIL.Image import Image

from . import listing
from .errors import ItemError
from .media import clips, files, images, pipes, sniff, video
from .media.clips import Clip
from .records import Failing, Item, Record, decode, failed

_GIF_TICK_S = 0.01


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        min_side: JPEGs may be decoded smaller, down to this shorter side in pixels; None decodes them whole.
        every: of a video, every N-th frame; of an animation likewise, with ``all_frames``.
        fps: of a video, so many frames a second; likewise.
        all_frames: every frame of animated and multi-page image files, and not only the first.
        allow_urls: fetch http and https URLs.
        null: names in a pipe end with a NUL byte and not with a newline.
        whole: videos are items, and not their frames: see `from_arguments_whole`.
        sequence: with ``whole``, whether pictures are the frames of one video; None asks their names and sizes, in folders alone.
        notice: is told of a pipe through which nothing came, and of each folder whose names look like those of one video what it was taken
            for.
    """

    min_side: int | None = None
    every: int | None = None
    fps: float | None = None
    all_frames: bool = False
    allow_urls: bool = False
    null: bool = False
    whole: bool = False
    sequence: bool | None = None
    notice: Callable[[str], None] | None = None


def from_arguments(names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading) -> Iterator[Item[Image]]:
    """Items of the command line's inputs, in their order; ``-`` is the pipe. Lazy: nothing is listed before it is needed."""
    for name in names:
        if name == "-":
            yield from from_pipe(pipe or io.BytesIO(), reading)  # type: ignore[arg-type]
        elif listing.is_pattern(name):
            yield from _from_glob(name, reading)
        else:
            yield from from_name(name, reading)


def from_arguments_whole(names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading) -> Iterator[Item[Image | Clip]]:
    """As `from_arguments`, but each video is one item, whose payload is a `Clip`: files, cameras, a video's bytes in the pipe, animations.

    A folder's pictures are a clip where their names are numbered alike (`clips.are_frames`) and their sizes are equal, each folder for
    itself, and so are those that a pattern as ``f%05d.png`` finds. With ``reading.sequence`` they are one always, and so are pictures that
    any pattern finds or that are named one after the other.
    """
    whole = replace(reading, whole=True)
    for pattern, group in itertools.groupby(names, key=listing.is_pattern):
        if reading.sequence:
            yield from _joined(from_arguments(group, pipe, whole), reading, in_order=pattern)
            continue
        for name in group:
            items: Iterator[Item[Any]] = from_arguments([name], pipe, whole)
            numbered = reading.sequence is None and listing.is_numbered(name)
            yield from _joined(items, reading, in_order=True) if numbered else items


def from_name(name: str, reading: Reading) -> Iterator[Item[Image]]:
    """Items of one path or URL: a folder gives its images and videos, a video its frames."""
    if listing.is_url(name):
        yield from _from_url(name, reading)
    elif listing.is_folder(name):
        found = False
        for item in _from_folder(name, reading):
            found = True
            yield item
        if not found:
            yield failed({"path": name}, ItemError("no_images", "the folder holds no images or videos"))
    else:
        yield from _from_file(name, reading)


def from_pipe(pipe: io.RawIOBase, reading: Reading) -> Iterator[Item[Image]]:
    """Items of a pipe, which holds one image's bytes, one video's bytes, or lines: paths and JSON records, mixed as they come."""
    bytes_come = not reading.null  # else names do, whatever the first of them look like
    head = pipes.read_head(pipe) if bytes_come else pipe.read(1 << 16) or b""
    if not head and reading.notice:
        reading.notice("nothing came through the pipe, so there is nothing to do")
    if bytes_come and images.looks_like_image(head):
        data = head + pipe.readall()
        yield from _from_bytes({"path": "-"}, data, reading)
    elif bytes_come and video.looks_like_video(head):
        yield from _from_video({"path": "-"}, pipes.rewound(head, pipe), reading)
    elif bytes_come and b"\0" in head:  # no text, but some picture that is not read here, whose name the decoder may know
        yield Item({"path": "-"}, lambda: _unknown(head))
    else:
        cursor = clips.Cursor()
        for line in pipes.lines(head, pipe, b"\n" if bytes_come else b"\0"):
            if line.lstrip().startswith(b"{"):
                yield from _from_record(line, reading, cursor)
            elif line.strip():
                yield from from_name(_name(line), reading)


def _name(line: bytes) -> str:
    """A file's name, also from a list that was made on Windows, whose lines end in a carriage return."""
    name = os.fsdecode(line)
    return name[:-1] if name.endswith("\r") and not os.path.lexists(name) else name


def _unknown(head: bytes) -> Image:
    """Bytes that begin so are no picture, and the decoder says what they are."""
    try:
        return images.decode(head)
    except ItemError as error:
        hint = "" if sniff.is_heic(head) else "; names that end in NUL bytes want --null"
        raise ItemError(error.kind, error.message + hint) from error


def _from_folder(folder: str, reading: Reading) -> Iterator[Item[Any]]:
    if not reading.whole:
        for path in listing.walk(folder):
            yield from _from_file(path, reading)
        return
    try:
        entries = listing.entries(folder)
    except OSError as error:
        yield failed({"path": folder}, ItemError("unreadable", error.strerror or str(error)))
        return
    names = [name for name, is_dir in entries if not is_dir]
    frames = _stills(folder, [name for name in names if listing.suffix(name) in images.IMAGE_SUFFIXES], reading)
    paths = [os.path.join(folder, name) for name in frames]  # noqa: PTH118
    if frames and _are_a_video(folder, paths, reading):
        yield _sequence({"path": folder}, [Item({"path": path}, _Picture(path, reading)) for path in paths])
        taken = set(frames)
        names = [name for name in names if name not in taken]
    for name in names:
        if listing.suffix(name) in images.IMAGE_SUFFIXES | video.VIDEO_SUFFIXES:
            yield from _from_file(os.path.join(folder, name), reading)  # noqa: PTH118
    for name, is_dir in entries:
        if is_dir:
            yield from _from_folder(os.path.join(folder, name), reading)  # noqa: PTH118


def _stills(folder: str, names: Sequence[str], reading: Reading) -> list[str]:
    """The pictures of a folder that do not move, in their order; each that may is looked at where they could be the frames of a video."""
    surely = [name for name in names if listing.suffix(name) not in listing.MOVING]
    if reading.sequence or (reading.sequence is None and (clips.are_frames(names) or clips.are_frames(surely))):
        names = [name for name in names if not _Picture(os.path.join(folder, name), reading).moves()]  # noqa: PTH118
    return sorted(names, key=clips.in_order)


def _are_a_video(folder: str, paths: Sequence[str], reading: Reading) -> bool:
    """Whether the pictures of a folder are the frames of one video: as it was ordered, or by their names and sizes."""
    if reading.sequence is not None or not clips.are_frames([os.path.basename(path) for path in paths]):  # noqa: PTH119
        return bool(reading.sequence)
    sizes = [size for size in map(images.size_of, paths) if size]
    other = next((size for size in sizes if size != sizes[0]), None)
    if reading.notice and other is None:
        reading.notice(f"{folder} is taken as one video of {len(paths)} frames; --no-sequence takes its pictures one by one")
    elif reading.notice and other:
        different = " and ".join(f"{width}x{height}" for width, height in (sizes[0], other))
        reading.notice(f"{folder}: the pictures are numbered like a video's but differ in size ({different}), so each is taken for itself")
    return other is None


def _joined(items: Iterable[Item[Any]], reading: Reading, *, in_order: bool) -> Iterator[Item[Any]]:
    """Picture files that come one after the other as one clip, but for animations, each of which is one; ``in_order`` sorts them by the
    numbers in their names. What is about no picture, or is known to fail, comes before the clip and does not end it.
    """
    frames: list[Item[Any]] = []
    of: str | None = None
    for item in items:
        if item.load is None or isinstance(item.load, Failing):
            yield item
            continue
        part = _part(item)
        if frames and part != of:
            yield _clip_of(frames, of, reading, in_order=in_order)
            frames = []
        of = part
        if part is None:
            yield item
        else:
            frames.append(item)
    if frames:
        yield _clip_of(frames, of, reading, in_order=in_order)


def _clip_of(frames: list[Item[Any]], part: str | None, reading: Reading, *, in_order: bool) -> Item[Clip]:
    if in_order:
        frames.sort(key=lambda item: clips.in_order(item.record["path"]))
    elif reading.notice and not _rising(frames):
        reading.notice("the pictures come as they are named, not by their numbers; quote a pattern to have it sorted")
    return _sequence({"path": part or os.path.dirname(frames[0].record["path"]) or "."}, frames)  # noqa: PTH120


def _part(item: Item[Any]) -> str | None:
    """Of what a picture is a frame: of the video whose path this is, or empty for files in a row; None for what is no frame."""
    if isinstance(item.load, _VideoFrame):
        return item.load.path
    return "" if isinstance(item.load, _Picture) and not item.load.moves() else None


def _rising(frames: Sequence[Item[Any]]) -> bool:
    """Whether pictures come by the numbers in their names, where these differ in nothing else."""
    names = [frame.record["path"] for frame in frames]
    return not clips.are_frames(names) or names == sorted(names, key=clips.in_order)


def _sequence(record: Record, frames: Sequence[Item[Any]]) -> Item[Clip]:
    lines = [frame.record for frame in frames]
    of_video = [frame.load for frame in frames if isinstance(frame.load, _VideoFrame)]
    if of_video:
        return Item(record, lambda: clips.from_frames(of_video[0].frames, [frame.number for frame in of_video], lines))
    pictures = [frame.load.image for frame in frames if isinstance(frame.load, _Picture)]
    return Item(record, lambda: clips.from_pictures(pictures, lines))


def _from_glob(pattern: str, reading: Reading) -> Iterator[Item[Image]]:
    found = False
    for path in listing.matching(pattern):
        if listing.is_folder(path):
            continue
        found = True
        yield from _from_file(path, reading)
    if not found:
        yield failed({"path": pattern}, ItemError("missing", "no file matches this pattern"))


def _from_file(path: str, reading: Reading) -> Iterator[Item[Image]]:
    record: Record = {"path": path}
    suffix = listing.suffix(path)
    told = suffix in video.VIDEO_SUFFIXES or suffix in images.IMAGE_SUFFIXES  # by its name, so that the file need not be asked
    if not told and _is_fifo(path):
        yield from _from_fifo(record, path, reading)
    elif suffix in video.VIDEO_SUFFIXES or (not told and _is_video(path)):
        yield from _from_video(record, path, reading)
    elif reading.all_frames:
        try:
            data = _read(path)
        except ItemError as error:
            yield failed(record, error)
            return
        yield from _from_bytes(record, data, reading)
    else:
        yield Item(record, _Picture(path, reading))


def _from_fifo(record: Record, path: str, reading: Reading) -> Iterator[Item[Any]]:
    """What comes through a named pipe: a picture, or a video, of which no more than a frame is waited for."""
    try:
        pipe = io.FileIO(path)
        head = pipes.read_head(pipe)
        video_comes = video.looks_like_video(head) and not images.looks_like_image(head)
        data = b"" if video_comes else head + pipe.readall()
    except OSError as error:
        yield failed(record, ItemError("unreadable", f"cannot be read ({error.strerror or error})"))
        return
    if video_comes:
        yield from _from_video(record, pipes.rewound(head, pipe), reading)
    else:
        yield from _from_bytes(record, data, reading)


@dataclass(frozen=True)
class _Picture:
    """Loads an image file."""

    path: str
    reading: Reading

    def __call__(self) -> Any:
        return _decode(_read(self.path), self.reading)

    def moves(self) -> bool:
        """Whether it is an animation, by a name that says it may be one. What cannot be read is none."""
        if listing.suffix(self.path) not in listing.MOVING:
            return False
        try:
            return images.is_animated(_read(self.path))
        except ItemError:
            return False

    def image(self) -> Image:
        """The picture; of a moving one, the first."""
        return images.decode(_read(self.path), min_side=self.reading.min_side)


@dataclass(frozen=True)
class _VideoFrame:
    """Loads a frame of a video or an animation, as lines name them; `_sequence` reads several in one pass."""

    path: str
    number: int

    def __call__(self) -> Image:
        return clips.Cursor(lambda _: self.frames()).at(self.path, self.number).image

    def frames(self) -> Iterator[video.VideoFrame]:
        """All of its file."""
        if listing.suffix(self.path) in video.VIDEO_SUFFIXES or _is_video(self.path):
            return video.read_frames(self.path)
        return clips.from_animation(_read(self.path)).read(0)


def _read(path: str) -> bytes:
    """All of a picture's file. A large one is looked at first: what is none, a disk's image among other files, may not fit into memory.

    Raises:
        ItemError: as `files.read` and `images.decode`.
    """
    head = files.large_head(path)
    if head and not images.looks_like_image(head):
        images.decode(head)  # which says what it is
    return files.read(path)


def _decode(data: bytes, reading: Reading) -> Any:
    """The picture, or with ``reading.whole`` a `Clip` where it moves."""
    if reading.whole and images.is_animated(data):
        return clips.from_animation(data)
    return images.decode(data, min_side=reading.min_side)


def _from_bytes(record: Record, data: bytes, reading: Reading) -> Iterator[Item[Image]]:
    if not reading.all_frames:
        yield Item(record, lambda: _decode(data, reading))
        return
    index = -1
    try:
        many = images.frame_count(data) > 1
        moving = many and images.is_animated(data)
        keep = video.sampler(*((reading.every, reading.fps) if moving else (None, None)), tick=_GIF_TICK_S)  # pages have no time
        for index, (time, _, image) in enumerate(images.timed_frames(data, min_side=reading.min_side)):
            about = ({"frame": index} if many else {}) | ({"time": round(time, 6)} if moving else {})
            if keep(index, time):
                yield Item({**record, **about}, lambda image=image: image)  # type: ignore[misc]
    except ItemError as error:
        yield failed({**record, "frame": index + 1} if index >= 0 else record, error)


def _from_record(line: bytes, reading: Reading, cursor: clips.Cursor) -> Iterator[Item[Image]]:
    try:
        record = decode(line)
    except ItemError as error:
        name = os.fsdecode(line)
        if os.path.lexists(name):  # a file that is called "{...}.jpg"
            yield from from_name(name, reading)
        else:
            yield failed({"input": name}, error)
        return
    path = record.get("path")
    if path is None or path == "-":
        yield Item(record, None)
    elif listing.is_url(path) and "frame" in record:
        yield failed(record, ItemError("refused", "a frame of what a URL names would be fetched anew for each line; download it first"))
    elif "frame" not in record:
        yield from (Item({**record, **item.record}, item.load) for item in from_name(path, reading))
    elif reading.whole and reading.sequence:
        yield Item(record, _VideoFrame(path, record["frame"]))
    elif listing.suffix(path) in video.VIDEO_SUFFIXES or _is_video(path):
        try:
            image = cursor.at(path, record["frame"]).image
        except ItemError as error:
            yield failed(record, error)
        else:
            yield Item(record, lambda: image)
    else:
        yield Item(record, lambda: images.decode(files.read(path), min_side=reading.min_side, frame=record["frame"]))


def _from_video(record: Record, source: str | BinaryIO, reading: Reading) -> Iterator[Item[Any]]:
    if reading.whole:
        yield Item(record, lambda: clips.from_source(source))
    else:
        yield from _video_frames(record, source, reading)


def _video_frames(record: Record, source: str | BinaryIO, reading: Reading) -> Iterator[Item[Image]]:
    last = -1
    try:
        for frame in video.read_frames(source, every=reading.every, fps=reading.fps):
            last = frame.index
            yield Item({**record, "frame": frame.index, "time": round(frame.time, 6)}, lambda image=frame.image: image)  # type: ignore[misc]
    except ItemError as error:
        yield failed({**record, "frame": last + 1} if last >= 0 else record, error)


def _from_url(url: str, reading: Reading) -> Iterator[Item[Any]]:
    """The picture that a URL names, fetched beside the model; or the frames of a video, told by the URL's ending and fetched at once."""
    record: Record = {"path": url}
    if not reading.allow_urls:
        yield failed(record, ItemError("refused", "URLs are fetched only with --allow-urls"))
        return
    if not reading.all_frames and listing.suffix(_url_path(url)) not in video.VIDEO_SUFFIXES:
        yield Item(record, lambda: _fetched(url, reading))
        return
    try:
        data = files.fetch(url)
    except ItemError as error:
        yield failed(record, error)
        return
    if video.looks_like_video(data[: sniff.HEAD]):
        yield from _from_video(record, io.BytesIO(data), reading)
    else:
        yield from _from_bytes(record, data, reading)


def _fetched(url: str, reading: Reading) -> Any:
    data = files.fetch(url)
    if not video.looks_like_video(data[: sniff.HEAD]):
        return _decode(data, reading)
    if reading.whole:
        return clips.from_source(io.BytesIO(data))
    raise ItemError("not_an_image", "a video whose URL does not end like one (.mp4, .webm, ...); download it first")


def _url_path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # as of a bracket that is not closed; fetching says so
        return ""


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116  Path.stat raises other errors for names that no file can have
    except (OSError, ValueError):
        return False


def _is_video(path: str) -> bool:
    """Whether a file without a telling name starts like a video, or is a camera. Pipes are not opened: what is read from them is gone."""
    if video.is_camera(path):
        return True
    return os.path.isfile(path) and sniff.is_video_file(path)  # noqa: PTH113  as listing.is_folder
