"""Files that `visiontk segment` makes beside its lines: overlays, masks, labels, cut-outs and arrays of pictures; COCO of a whole run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from visiontk.artefacts import Naming, is_folder, write, writing
from visiontk.errors import ItemError, UsageError
from visiontk.records import Record

from . import interrupts, writers
from .segment_sheet import Sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.segment import ObjectMask, ObjectPrompt
    from visiontk.media.mask_files import Coco

    from .segment_stale import EarlierObjects

Save = Callable[[BinaryIO], object]


class Kind(StrEnum):
    overlay = "overlay"
    masks = "masks"
    binary = "binary"
    coco = "coco"
    yolo = "yolo"
    cutout = "cutout"
    npz = "npz"

    @property
    def shown(self) -> str:
        """What it shows, as the file's name says it; an array of masks says the rest with its suffix."""
        return "masks" if self is Kind.npz else self.value


PER_OBJECT = (Kind.binary, Kind.cutout)
CLIP_SUFFIXES = {Kind.overlay: ".mp4", Kind.npz: ".npz"}  # of what is one file of a clip; others are folders
SUFFIXES = {Kind.overlay: ".png", Kind.masks: ".png", Kind.binary: ".png", Kind.cutout: ".png", Kind.yolo: ".txt", Kind.npz: ".npz"}


def parse(text: str) -> list[Kind]:
    """``--save``. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in list(Kind):
            raise UsageError(f"--save {text}: there is no kind {name!r}; use {', '.join(Kind)}, with commas between several")
    return [kind for kind in Kind if kind in names]


def other_suffix(out: str | None, kinds: Sequence[Kind], suffixes: Collection[str]) -> str | None:
    """The suffix of the file or template that ``-o`` names, where it is none of those that the kinds have."""
    if out is None or out == "-" or not kinds or ("{" not in out and is_folder(out)):
        return None
    given = Path(out).suffix.lower()
    return given if given and given not in suffixes else None


@dataclass(frozen=True)
class Seen:
    """One picture or frame with what was found in it.

    Attributes:
        image: RGB.
        objects: with their masks.
        values: the same as the record has them.
        prompts: those that were given on it.
    """

    image: Image
    objects: Sequence[ObjectMask]
    values: Sequence[Record]
    prompts: Sequence[ObjectPrompt]

    def overlay(self) -> Image:
        from visiontk.media.overlay import overlay

        points = [(x, y, bool(label)) for prompt in self.prompts for (x, y), label in zip(prompt.points, prompt.labels, strict=True)]
        boxes = [prompt.box for prompt in self.prompts if prompt.box]
        return overlay(self.image, [(one.object_id, one.mask) for one in self.objects], points=points, boxes=boxes)

    def contents(self, kind: Kind, drawn: Image | None) -> Iterator[tuple[int, Save]]:
        """What the files of one kind hold: pairs of an object, 0 for all in one file, and a function that writes it."""
        from visiontk.media import mask_files, masks

        pairs = [(one.object_id, one.mask) for one in self.objects]
        if kind is Kind.overlay:
            assert drawn is not None
            yield 0, lambda file: drawn.save(file, format="PNG")
        elif kind is Kind.masks:
            yield 0, partial(masks.write_indexed_png, map=masks.index_map(pairs, (self.image.height, self.image.width)))
        elif kind is Kind.binary:
            yield from ((number, partial(masks.write_binary_png, mask=mask)) for number, mask in pairs)
        elif kind is Kind.yolo:
            yield 0, partial(mask_files.write_yolo, masks=pairs)
        elif kind is Kind.cutout:
            visible = ((number, masks.cutout(self.image, mask)) for number, mask in pairs if mask.any())
            yield from ((number, partial(masks.write_png, image=picture)) for number, picture in visible)
        elif kind is Kind.npz:
            yield 0, self._write_arrays

    def _write_arrays(self, file: BinaryIO) -> None:
        from visiontk.media.mask_files import MaskArrays
        from visiontk.media.spool import Spool

        with Spool() as spool:
            arrays = MaskArrays(spool, self.image.height, self.image.width, video=False)
            for one in self.objects:
                arrays.add(one.object_id, one.mask, one.score)
            arrays.write(file)


class Artefacts:
    """All files of a run; a context manager, on leaving which those that are about the whole run are written, also when it is stopped.

    With ``earlier``, files of a picture's objects that an earlier run left and this one does not make are removed.

    Raises:
        UsageError: COCO's file exists.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        naming: Naming,
        sheet: Sheet | None,
        warn: Callable[[str], None],
        earlier: EarlierObjects | None = None,
    ) -> None:
        self.kinds, self.naming, self.sheet, self.warn, self._earlier = kinds, naming, sheet, warn, earlier
        self._stack = ExitStack()
        self._coco: Coco | None = None
        self._on_output = 0
        about = ("run", Kind.coco.shown) if "{kind}" in (naming.out or "") else (Kind.coco.shown, "")
        try:
            self._coco_path = naming.path({"path": about[0]}, 0, about[1], ".json") if Kind.coco in kinds else Path()
        except ItemError as error:
            raise UsageError(error.message) from error

    def __enter__(self) -> Self:
        if Kind.coco in self.kinds:
            from visiontk.media.mask_files import Coco
            from visiontk.media.spool import Spool

            file = self._stack.enter_context(writing(self._coco_path, keep=lambda: self._coco is not None and self._coco.images > 0))
            self._coco = Coco(file, self._stack.enter_context(Spool()))
            self._stack.callback(self._coco.finish)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with interrupts.held():
            self._stack.__exit__(kind, error, trace)
            if self.sheet:
                self.sheet.write()

    def picture(self, record: Record, index: int, seen: Seen) -> Record:
        """Write the files of one picture; returns them by kind, as the line names them.

        Raises:
            ItemError: ``exists``.
            OutputError: a file cannot be written.
            UsageError: the name that is given is of another type than all that is saved of a picture.
        """
        self._check_name(record)
        drawn = self.draw(record, seen)
        if self.naming.out == "-":
            assert drawn is not None
            self.take_output()
            writers.write_picture(drawn)
            return {Kind.overlay.value: "-"}
        # All names first: nothing is written of an item when one of its files exists already.
        planned = [
            (kind, self.naming.path(record, index, f"{kind}-{number}" if number else kind.shown, SUFFIXES[kind]), save)
            for kind in self.kinds
            if kind is not Kind.coco
            for number, save in seen.contents(kind, drawn)
        ]
        files: Record = {kind.value: [] for kind in self.kinds if kind in PER_OBJECT}
        for kind, path, save in planned:
            write(path, save)
            if kind in PER_OBJECT:
                files[kind.value].append(str(path))
            else:
                files[kind.value] = str(path)
        self._remove_earlier(record, index, {path for _, path, _ in planned})
        return files | self.add_to_coco(record, seen)

    def lacks(self, files: Sequence[str]) -> bool:
        """Whether one of those that a video's lines name is missing that is written after them, and that this run would write."""
        late = {CLIP_SUFFIXES[kind] for kind in self.kinds if kind in CLIP_SUFFIXES}
        return any(Path(file).suffix.lower() in late and not Path(file).exists() for file in files)

    def _check_name(self, record: Record) -> None:
        suffixes = [*dict.fromkeys(SUFFIXES.get(kind, ".json") for kind in self.kinds)]
        if given := other_suffix(self.naming.out, self.kinds, suffixes):
            path, cure = record.get("path"), f"name one that ends in {' or '.join(suffixes)}, or a folder"
            shown = f"{path} is a picture"
            if "frame" in record:
                shown, cure = f"the line is of one frame of {path}", f"name {path} itself to track through it, take --sequence, or {cure}"
            raise UsageError(f"-o {self.naming.out}: {shown}, and what is saved of it ({', '.join(self.kinds)}) is no {given} file; {cure}")

    def _remove_earlier(self, record: Record, index: int, written: Collection[Path]) -> None:
        """What is left of objects that the picture has no more, where names say which object a file is of. Raises OutputError."""
        out = self.naming.out
        if self._earlier and (out is None or ("{kind}" in out if "{" in out else is_folder(out))):
            for kind in PER_OBJECT:
                if kind in self.kinds:
                    self._earlier.remove(self.naming.name(record, index, f"{kind}-0", SUFFIXES[kind]), written)

    def draw(self, record: Record, seen: Seen) -> Image | None:
        """The overlay, where one is to be saved; the contact sheet gets its share."""
        wanted = self.sheet is not None and self.sheet.wants_next()
        drawn = seen.overlay() if wanted or Kind.overlay in self.kinds else None
        if self.sheet and wanted and drawn:
            self.sheet.add(drawn, record)
        return drawn

    def add_to_coco(self, record: Record, seen: Seen) -> Record:
        if self._coco is None:
            return {}
        about = {"file_name": record.get("path", "")} | ({"frame": record["frame"]} if "frame" in record else {})
        self._coco.add(about, seen.image.width, seen.image.height, seen.values)
        return {Kind.coco.value: str(self._coco_path)}

    def take_output(self) -> None:
        """Raise UsageError where ``-o -`` has one thing on the output already."""
        self._on_output += 1
        if self._on_output > 1:
            raise UsageError("-o - has room for one picture or video, and there are more inputs; name a folder with -o")
