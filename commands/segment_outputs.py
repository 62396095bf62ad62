"""Files that `visiontk segment` makes beside its lines: overlays, masks, labels, cut-outs and arrays of pictures; COCO of a whole run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from visiontk.artefacts import Naming, is_same, write, writing
from visiontk.errors import ItemError, UsageError
from visiontk.records import Record

from . import interrupts, segment_names, writers
from .segment_names import CLIP_SUFFIXES, PER_OBJECT, SUFFIXES, Kind
from .segment_sheet import Sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from visiontk.adapters.segment import ObjectMask, ObjectPrompt
    from visiontk.media.mask_files import Coco

    from .segment_stale import EarlierObjects

Save = Callable[[BinaryIO], object]


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
        self._plain = segment_names.plain(naming.out, kinds, SUFFIXES)
        try:
            self._coco_path = segment_names.of_run(naming) if Kind.coco in kinds else Path()
        except ItemError as error:
            raise UsageError(error.message) from error

    def __enter__(self) -> Self:
        if Kind.coco in self.kinds:
            from visiontk.media.mask_files import Coco
            from visiontk.media.spool import Spool

            file = self._stack.enter_context(writing(self._coco_path, keep=self._has_coco))
            self._coco = Coco(file, self._stack.enter_context(Spool()))
            self._stack.callback(self._coco.finish)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with interrupts.held():
            self._stack.__exit__(kind, error, trace)
            if self._coco and (kind is None or self._has_coco()):
                self.note(Kind.coco, [str(self._coco_path)])
            if self.sheet:
                self.sheet.write()

    def _has_coco(self) -> bool:
        """Whether COCO's file is whole and holds something."""
        return self._coco is not None and self._coco.finished and self._coco.images > 0

    def picture(self, record: Record, index: int, seen: Seen) -> Record:
        """Write the files of one picture; returns them by kind, as the line names them.

        Raises:
            ItemError: ``exists``, or the name that is given is of another type than all that is saved of a picture.
            OutputError: a file cannot be written.
        """
        if wrong := segment_names.wrong_for_picture(self.naming.out, self.kinds, record):
            raise ItemError("refused", wrong)
        drawn = self.draw(record, seen)
        if self.naming.out == "-":
            assert drawn is not None
            self.take_output()
            writers.write_picture(drawn)
            return {Kind.overlay.value: "-"}
        # All names first: nothing is written of an item when one of its files exists already.
        planned = [
            (kind, self.naming.path(record, index, self._called(kind, number, seen), SUFFIXES[kind]), save)
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
        for saved in self.kinds:
            self.note(saved, [str(path) for kind, path, _ in planned if kind is saved])
        return files | self.add_to_coco(record, seen)

    def lacks(self, files: Sequence[str]) -> bool:
        """Whether one of those that a video's lines name is missing that is written after them, and that this run would write."""
        late = {CLIP_SUFFIXES[kind] for kind in self.kinds if kind in CLIP_SUFFIXES}
        return any(Path(file).suffix.lower() in late and not Path(file).exists() for file in files)

    def _called(self, kind: Kind, number: int, seen: Seen) -> str:
        """What a file's name says of it: the kind and the object; nothing where ``-o`` names just this one."""
        if kind is self._plain and (number == 0 or len(seen.objects) == 1):
            return ""
        return f"{kind}-{number}" if number else kind.shown

    def _remove_earlier(self, record: Record, index: int, written: Collection[Path]) -> None:
        """What is left of objects that the picture has no more, where names say which object a file is of. Raises OutputError."""
        if self._earlier is None:
            return
        for kind in PER_OBJECT:
            if kind in self.kinds:
                self._earlier.remove(self.naming.name(record, index, f"{kind}-0", SUFFIXES[kind]), written)
            if kind is self._plain:
                only = self.naming.free_name(record, index, "", SUFFIXES[kind])  # of a picture that had one object
                if only and not is_same(only, record.get("path")):
                    self._earlier.remove_one(only)

    def note(self, kind: Kind, files: Sequence[str]) -> None:
        """Files of one item, or a folder, which ends in a slash: the end of the run says where they are."""
        if self.sheet:
            self.sheet.places.note(kind, files)

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
