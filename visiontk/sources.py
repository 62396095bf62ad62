"""From what a user names to items: paths, folders, globs, pipes of paths, of records or of bytes, videos, URLs."""

from __future__ import annotations

import glob
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from .errors import ItemError
from .media import images, video
from .records import Item, Record, decode, failed

URL_TIMEOUT_S = 30
URL_MAX_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        min_side: JPEGs may be decoded smaller, down to this shorter side in pixels; None decodes them whole.
        every: of a video, every N-th frame.
        fps: of a video, so many frames a second.
        all_frames: every frame of animated and multi-page image files, and not only the first.
        allow_urls: fetch http and https URLs.
        null: names in a pipe end with a NUL byte and not with a newline.
    """

    min_side: int | None = None
    every: int | None = None
    fps: float | None = None
    all_frames: bool = False
    allow_urls: bool = False
    null: bool = False


def from_arguments(names: Iterable[str], pipe: io.RawIOBase | None, reading: Reading) -> Iterator[Item[Image]]:
    """Items of the command line's inputs, in their order; ``-`` is the pipe. Lazy: nothing is listed before it is needed."""
    for name in names:
        if name == "-":
            yield from from_pipe(pipe or io.BytesIO(), reading)  # type: ignore[arg-type]
        elif not is_url(name) and glob.has_magic(name) and not os.path.lexists(name):
            yield from _from_glob(name, reading)
        else:
            yield from from_name(name, reading)


def from_name(name: str, reading: Reading) -> Iterator[Item[Image]]:
    """Items of one path or URL: a folder gives its images and videos, a video its frames."""
    if is_url(name):
        yield _from_url(name, reading)
    elif _is_folder(name):
        found = False
        for path in walk(name):
            found = True
            yield from _from_file(path, reading)
        if not found:
            yield failed({"path": name}, ItemError("no_images", "the folder holds no images or videos"))
    else:
        yield from _from_file(name, reading)


def from_pipe(pipe: io.RawIOBase, reading: Reading) -> Iterator[Item[Image]]:
    """Items of a pipe, which holds one image's bytes, one video's bytes, or lines: paths and JSON records, mixed as they come."""
    head = _read_head(pipe)
    if images.looks_like_image(head):
        data = head + pipe.readall()
        yield from _from_bytes({"path": "-"}, data, reading)
    elif video.looks_like_video(head):
        yield from _video_frames({"path": "-"}, _Prefixed(head, pipe), reading)
    else:
        cursor = _VideoCursor()
        for line in _lines(head, pipe, b"\0" if reading.null else b"\n"):
            if line.lstrip().startswith(b"{"):
                yield from _from_record(line, reading, cursor)
            elif line.strip():
                yield from from_name(os.fsdecode(line), reading)


def walk(folder: str) -> Iterator[str]:
    """Paths of the images and videos under a folder, sorted within each folder, hidden ones left out. Links to folders are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        elif _suffix(entry.name) in images.IMAGE_SUFFIXES | video.VIDEO_SUFFIXES:
            yield entry.path


def count(names: Iterable[str]) -> int | None:
    """How many items these inputs come to, or None where that cannot be known beforehand (pipes, URLs, videos, globs)."""
    total = 0
    for name in names:
        paths = walk(name) if _is_folder(name) else iter([name])
        for path in paths:
            if path == "-" or is_url(path) or glob.has_magic(path) or _suffix(path) in video.VIDEO_SUFFIXES:
                return None
            total += 1
    return total


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _from_glob(pattern: str, reading: Reading) -> Iterator[Item[Image]]:
    found = False
    for path in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207  Path.glob takes no absolute patterns
        if _is_folder(path):
            continue
        found = True
        yield from _from_file(path, reading)
    if not found:
        yield failed({"path": pattern}, ItemError("missing", "no file matches this pattern"))


def _from_file(path: str, reading: Reading) -> Iterator[Item[Image]]:
    record: Record = {"path": path}
    suffix = _suffix(path)
    if suffix in video.VIDEO_SUFFIXES or (suffix not in images.IMAGE_SUFFIXES and _is_video(path)):
        yield from _video_frames(record, path, reading)
    elif reading.all_frames:
        try:
            data = _read(path)
        except ItemError as error:
            yield failed(record, error)
            return
        yield from _from_bytes(record, data, reading)
    else:
        yield Item(record, lambda: images.decode(_read(path), min_side=reading.min_side))


def _from_bytes(record: Record, data: bytes, reading: Reading) -> Iterator[Item[Image]]:
    if not reading.all_frames:
        yield Item(record, lambda: images.decode(data, min_side=reading.min_side))
        return
    index = -1
    try:
        many = images.frame_count(data) > 1
        for index, image in enumerate(images.frames(data, min_side=reading.min_side)):
            yield Item({**record, "frame": index} if many else record, lambda image=image: image)  # type: ignore[misc]
    except ItemError as error:
        yield failed({**record, "frame": index + 1} if index >= 0 else record, error)


def _from_record(line: bytes, reading: Reading, cursor: _VideoCursor) -> Iterator[Item[Image]]:
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
    elif "frame" not in record:
        yield from (Item({**record, **item.record}, item.load) for item in from_name(path, reading))
    elif _suffix(path) in video.VIDEO_SUFFIXES or _is_video(path):
        try:
            image = cursor.frame(path, record["frame"])
        except ItemError as error:
            yield failed(record, error)
        else:
            yield Item(record, lambda: image)
    else:
        yield Item(record, lambda: images.decode(_read(path), min_side=reading.min_side, frame=record["frame"]))


class _VideoCursor:
    """Frames of videos by number; frames that are asked for in order are decoded once, in one pass."""

    def __init__(self) -> None:
        self._path = ""
        self._next = 0
        self._frames: Iterator[video.VideoFrame] = iter(())

    def frame(self, path: str, index: int) -> Image:
        if path != self._path or index < self._next:
            self._path, self._next, self._frames = path, 0, video.read_frames(path)
        for frame in self._frames:
            self._next = frame.index + 1
            if frame.index == index:
                return frame.image
        self._path = ""
        raise ItemError("no_frame", f"the video has no frame {index}")


def _video_frames(record: Record, source: str | _Prefixed, reading: Reading) -> Iterator[Item[Image]]:
    last = -1
    try:
        for frame in video.read_frames(source, every=reading.every, fps=reading.fps):  # type: ignore[arg-type]
            last = frame.index
            yield Item({**record, "frame": frame.index, "time": round(frame.time, 6)}, lambda image=frame.image: image)  # type: ignore[misc]
    except ItemError as error:
        yield failed({**record, "frame": last + 1} if last >= 0 else record, error)


def _from_url(url: str, reading: Reading) -> Item[Image]:
    if not reading.allow_urls:
        return failed({"path": url}, ItemError("refused", "URLs are fetched only with --allow-urls"))

    def load() -> Image:
        try:
            with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as response:
                data = response.read(URL_MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise ItemError("missing", f"the server answered {error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            raise ItemError("unreadable", f"could not be fetched ({error})") from error
        if len(data) > URL_MAX_BYTES:
            raise ItemError("too_large", f"more than {URL_MAX_BYTES // 2**20} MB")
        return images.decode(data, min_side=reading.min_side)

    return Item({"path": url}, load)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ItemError("missing", "there is no such file") from error
    except (OSError, ValueError) as error:
        raise ItemError("unreadable", f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _is_video(path: str) -> bool:
    """Whether a file without a telling name starts like a video. Pipes and devices are not opened: what is read from them is gone."""
    if not os.path.isfile(path):  # noqa: PTH113  as _is_folder
        return False
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return video.looks_like_video(head) and not images.looks_like_image(head)


def _is_folder(path: str) -> bool:
    """False also where it cannot be known: Path.is_dir raises for a name that is too long or a folder that may not be searched."""
    return os.path.isdir(path)  # noqa: PTH112


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  ten times quicker than Path, and it runs once per file


def _read_head(pipe: io.RawIOBase) -> bytes:
    """Up to 64 bytes. Text is not waited for once a line is there, so that a slow pipe of names gets its first answer at once."""
    head = b""
    while len(head) < 64 and not (b"\n" in head and head[:1] not in b"\x89\xff\x00"):
        part = pipe.read(64 - len(head))
        if not part:
            break
        head += part
    return head


def _lines(head: bytes, pipe: io.RawIOBase, end: bytes) -> Iterator[bytes]:
    """The pipe's lines without their ends. The reading is unbuffered, so a line is there as soon as it is written."""
    rest: list[bytes] = []
    part: bytes | None = head
    while part:
        if end in part:
            *whole, last = b"".join([*rest, part]).split(end)
            yield from whole
            rest = [last]
        else:
            rest.append(part)
        part = pipe.read(1 << 16)
    if torn := b"".join(rest):
        yield torn


class _Prefixed:
    """A pipe whose first bytes were read already; what PyAV needs of a file."""

    def __init__(self, head: bytes, pipe: io.RawIOBase) -> None:
        self._head = head
        self._pipe = pipe

    def read(self, size: int = -1) -> bytes:
        if self._head:
            part, self._head = (self._head[:size], self._head[size:]) if size >= 0 else (self._head, b"")
            return part
        return self._pipe.read(size) or b""
