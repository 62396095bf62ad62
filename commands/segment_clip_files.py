"""Files that `visiontk segment` makes of one video: an overlay to play, and folders with a file for each frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from visiontk.artefacts import kept, write, writing, written_since
from visiontk.errors import ItemError, OutputError
from visiontk.records import Record

from . import interrupts, segment_names, writers
from .segment_names import BARE, CLIP_SUFFIXES, PER_OBJECT, SUFFIXES, Kind
from .segment_outputs import Artefacts, Seen
from .segment_stale import Earlier

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.media.clips import Clip
    from visiontk.media.mask_files import MaskArrays
    from visiontk.media.video import VideoFrame
    from visiontk.media.video_writer import VideoWriter


def may_be_left_over(path: Path, since: float) -> bool:
    """Whether a run whose last line was written at ``since`` may have left it of an item that has no line yet.

    Of a picture that is any of its files; of a video those of one frame, or a film of it where Ctrl-C came before its line.
    """
    if not written_since(path, since):
        return False
    if path.is_dir():
        return len({file.stem for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")}) <= 1
    return path.suffix.lower() != CLIP_SUFFIXES[Kind.overlay] or _frames(path) <= 1


def _frames(film: Path) -> int:
    from visiontk.media.video import count_packets

    try:
        return count_packets(str(film))
    except ItemError:
        return 0


class ClipFiles:
    """The files of one video; a context manager. Left by an exception, it makes them whole with what there is until then.

    ``first`` and ``last`` are the frames that come; no last one is the end of the video. ``held`` frames were answered by a stopped
    run: the files that it left stay until there is more than they hold. Frames in folders that an earlier run left and this one does
    not make are removed at the end.

    Raises:
        ItemError: ``exists``, one of them is there and may not be replaced, or ``-o`` names a file of another type.
    """

    def __init__(self, artefacts: Artefacts, record: Record, index: int, clip: Clip, first: int, last: int | None, held: int = 0) -> None:
        naming = artefacts.naming
        if wrong := segment_names.wrong_for_clip(naming.out, artefacts.kinds):
            raise ItemError("refused", wrong)
        self._artefacts, self._clip, self._first, self._last, self._held = artefacts, clip, first, last, held
        self._count = 0
        self._stopped: type[BaseException] | None = None  # by what, before all frames had come
        self._earlier: list[Earlier] = []
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None
        self._arrays: MaskArrays | None = None
        self._begin = 0.0
        stems = [Path(line["path"]).stem for line in clip.lines or []]
        self._stems = stems if len(set(stems)) == len(stems) else []
        self._paths: dict[Kind, Path] = {}
        self._made: set[Kind] = set()
        if naming.out == "-":
            artefacts.take_output()
            return
        about = {key: value for key, value in record.items() if key != "frame"}
        if clip.lines is not None:  # the name of a folder, which may be "." or ".."
            about["path"] = os.path.abspath(record["path"])  # noqa: PTH100  Path.resolve would follow links to other names
        self._paths = segment_names.of_clip(naming, artefacts.kinds, about, index)
        for kind, path in self._paths.items():
            if kind not in CLIP_SUFFIXES:
                self._earlier.append(Earlier(BARE if kind in BARE else [kind], path, self._stems))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped = kind
        with interrupts.held():
            self._stack.__exit__(kind, error, trace)
            if self._stopped is None:
                for earlier in self._earlier:
                    earlier.remove()
        if self._writer and self._writer.warning:
            self._artefacts.warn(self._writer.warning)
        for saved, path in self._paths.items():
            if saved in self._made and os.path.lexists(path):
                self._artefacts.note(saved, [str(path) if saved in CLIP_SUFFIXES else f"{path}/"])

    def add(self, record: Record, frame: VideoFrame, seen: Seen) -> Record:
        """Write what there is of one frame; returns its files by kind, as the line names them. Raises OutputError."""
        drawn = self._artefacts.draw(record, seen)
        files: Record = {}
        for kind in self._artefacts.kinds:
            if kind is Kind.overlay:
                assert drawn is not None
                files[kind.value] = self._film(frame, drawn)
            elif kind is Kind.npz:
                files[kind.value] = self._keep_arrays(frame, seen)
            elif kind is not Kind.coco:
                paths = [self._write(kind, frame.index, number, save) for number, save in seen.contents(kind, drawn)]
                files[kind.value] = paths if kind in PER_OBJECT else paths[0]
        self._made |= {kind for kind in self._artefacts.kinds if files.get(kind.value)}
        self._count += 1
        return files | self._artefacts.add_to_coco(record, seen)

    def _write(self, kind: Kind, index: int, number: int, save: object) -> str:
        name = (self._stems[index] if self._stems else f"{index:05d}") + SUFFIXES[kind]
        folder = self._paths[kind] / f"{number:03d}" if number else self._paths[kind]
        write(folder / name, save)  # type: ignore[arg-type]
        for earlier in self._earlier:
            earlier.written(folder / name)
        return str(folder / name)

    def _film(self, frame: VideoFrame, drawn: Image) -> str:
        if self._writer is None:
            self._writer = self._open(frame, drawn)
            self._begin = frame.time
        self._writer.write(drawn, frame.time - self._begin, frame.duration)
        return str(self._paths.get(Kind.overlay, "-"))

    def _open(self, frame: VideoFrame, drawn: Image) -> VideoWriter:
        from visiontk.media.video_writer import VideoWriter

        path = self._paths.get(Kind.overlay)
        file = self._stack.enter_context(writing(path, keep=self._may_be_kept) if path else kept(_to_output(), self._may_be_put_out))
        return self._stack.enter_context(
            VideoWriter(
                file,
                width=drawn.width,
                height=drawn.height,
                fps=frame.rate,
                pixel_aspect=frame.pixel_aspect,
                audio_from=self._clip.sound,
                audio_start=frame.time,
                audio_lead_in=self._first == 0,
                audio_outlasts=self._last is None,
            )
        )

    def _keep_arrays(self, frame: VideoFrame, seen: Seen) -> str:
        from visiontk.media.mask_files import MaskArrays
        from visiontk.media.spool import Spool

        path = self._paths[Kind.npz]
        if self._arrays is None:
            self._arrays = MaskArrays(self._stack.enter_context(Spool()), seen.image.height, seen.image.width, video=True)
            self._stack.callback(self._save_arrays, self._arrays)
        for one in seen.objects:
            self._arrays.add(one.object_id, one.mask, one.score, frame.index)
        return str(path)

    def _save_arrays(self, arrays: MaskArrays) -> None:
        if self._may_replace(self._paths[Kind.npz]):
            write(self._paths[Kind.npz], arrays.write)

    def _is_part(self) -> bool:
        """Whether the film ends early and plays; a second Ctrl-C may leave it without its end, which no player takes.

        One of all frames that lacks its last sound is none: ``--resume``, which finds all lines, would take it for whole.
        """
        return self._stopped is not None and self._writer is not None and self._writer.finished

    def _may_be_put_out(self) -> bool:
        """Whether a part goes to the output: not where the disk was full."""
        return self._is_part() and not issubclass(self._stopped or BaseException, OutputError)

    def _may_be_kept(self) -> bool:
        """Whether a part goes into its file."""
        return self._is_part() and self._may_replace(self._paths[Kind.overlay])

    def _may_replace(self, path: Path) -> bool:
        """Whether what there is may take the place of what a stopped run left. That has a frame more than lines at most."""
        return self._stopped is None or self._count > self._held or not path.exists()


@contextmanager
def _to_output() -> Iterator[BinaryIO]:
    """A file that goes to standard output when it is whole: an MP4 is written back and forth, which a pipe cannot."""
    from visiontk.media.spool import no_room, temporary_file

    try:
        with temporary_file() as file:
            try:
                yield cast(BinaryIO, file)
            except OutputError as error:
                raise (no_room(error.__cause__) if isinstance(error.__cause__, OSError) else error) from error
            file.seek(0)
            for piece in iter(partial(file.read, 1 << 20), b""):
                writers.write_bytes(piece)
    except OSError as error:  # what could not be written is tried again when the file is closed
        raise no_room(error) from error
