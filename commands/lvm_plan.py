"""Which images `visiontk lvm-continue` makes of a sentence, from what, and the names of their files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontk.artefacts import Naming, is_folder
from visiontk.errors import ItemError
from visiontk.records import Item, Record

from . import generate_names
from .lvm_held import Files, HeldImages
from .lvm_read import ReadFiles
from .lvm_sentences import Asked, Sentence

if TYPE_CHECKING:
    from visiontk.adapters.lvm import Sampling

FIELDS = ("sentence", "number", "candidate", "seed", "model")
_LONGEST_TASK = 40  # letters of it in a file's name
Place = tuple[int, int]  # candidate, number


@dataclass(frozen=True)
class Named:
    """The files of one sentence.

    Attributes:
        images: by candidate and number; empty where the bytes of one image go to the output.
        held: those that have a line and a file already.
        gone: those that have a line, whose file is not there any more; it is made again.
        strip: None where none is drawn.
        animations: of each candidate, where they are asked for.
        replace: files that exist and may be replaced.
    """

    images: dict[Place, Path]
    held: frozenset[Place]
    gone: frozenset[Place]
    strip: Path | None
    animations: list[Path]
    replace: frozenset[Path]

    def is_gone_on_from(self, place: Place) -> bool:
        """Whether an image of the same candidate is yet to be made, so that this one must be what is made of the sentence now."""
        return any(candidate == place[0] and (candidate, number) not in self.held for candidate, number in self.images)


@dataclass
class Plan:
    """What all sentences of a run share.

    Attributes:
        key: the stage's, where results stand in the record.
        naming: None where one image's bytes go to the output.
        suffix: of the images.
        strip, animation: whether a strip is drawn, and the suffix of animations.
        held: the lines that a stopped run left.
        read: the files that have been read so far.
        named: the files of each sentence that is to be made, by its index; taken out when it is.
    """

    key: str
    model: str
    sampling: Sampling
    count: int
    quantize: str | None
    naming: Naming | None
    suffix: str
    strip: bool
    animation: str | None
    held: HeldImages
    read: ReadFiles
    named: dict[int, Named] = field(default_factory=dict)
    _beside: dict[str, Naming] = field(default_factory=dict)
    _filmed: set[Path] = field(default_factory=set)
    _left_over: bool = False

    def items(self, sentences: Iterable[Item[Any]]) -> Iterator[Item[Any]]:
        """Without those that failed or passed through before the run was stopped."""
        return (item for item in sentences if isinstance(item, Asked) or not self.held.take_failed(item.record))

    def wanted(self, index: int, sentence: Sentence, line: Record | None) -> bool:
        """Whether a stopped run has left anything of it to make; names its files.

        ``line`` is that of `visiontk lvm-prompt`, which is also the line of the sentence where it fails. Of plain pictures each that is
        broken has its own, which `items` knows.

        Raises:
            ItemError: ``exists``.
        """
        places = list(itertools.product(range(self.sampling.candidates), range(self.count)))
        files = {place: self.held.take(self.made_from(sentence, *place)) for place in places} if self.held else {}
        held = {place: found for place, found in files.items() if found is not None}
        gone = {place for place, found in held.items() if not os.path.lexists(found.image)}
        if len(held) == len(places) and not gone and not self._lacks_films(held.values()):
            return False
        if self.held and not held and line is not None and self.held.take_lost(line):
            if self.naming is not None:  # its names are used up, so that others come to those of a run without a stop
                first, *_ = [self._path(index, sentence, *place) for place in places]
                self._films(first, sentence, {}, [])
            return False
        if self.naming is None:
            self.named[index] = Named({}, frozenset(), frozenset(), None, [], frozenset())
            return True
        images, replace = {place: found.image for place, found in held.items()}, {found.image for found in held.values()}
        for place in places:
            if place not in held:
                images[place] = self._image(index, sentence, *place)
        strip, animations = self._films(images[places[0]], sentence, held, images.values())
        if held:
            replace |= {path for path in (strip, *animations) if path is not None}
        self.named[index] = Named(images, frozenset(held.keys() - gone), frozenset(gone), strip, animations, frozenset(replace))
        return True

    def made_from(self, sentence: Sentence, candidate: int, number: int) -> Record:
        """What an image is made from, as its line says it and by which a stopped run knows it again."""
        value: Record = {"sentence": list(sentence.names)}
        value |= {"dropped": sentence.dropped} if sentence.dropped else {}
        value |= {"task": sentence.task} if sentence.task else {}
        value |= {"pairs": sentence.pairs} if sentence.pairs is not None else {}
        value |= {"number": number, "candidate": candidate, **self.sampling.told()}
        return value | ({"quantize": self.quantize} if self.quantize else {})

    def _image(self, index: int, sentence: Sentence, candidate: int, number: int) -> Path:
        """The file of an image. Raises ItemError."""
        path = self._path(index, sentence, candidate, number)
        assert self.naming is not None
        if not os.path.lexists(path):
            return path
        self.read.refuse(path)
        if self.naming.overwrite:
            return path
        # A stopped run may have written one image whose line it wrote no more. It stays if it is what is made now, and nothing else does.
        if self.held.resumed and not self._left_over:
            self._left_over = True
            return path
        raise ItemError("exists", f"{path} exists; pass --overwrite, or choose another place with -o")

    def _path(self, index: int, sentence: Sentence, candidate: int, number: int) -> Path:
        """The next name that an image can have, whether there is such a file or not."""
        assert self.naming is not None
        task = sentence.task[:_LONGEST_TASK] if sentence.task and sentence.task.isalnum() else None  # a line may hold any
        answer = f"{task}-answer" if task else "answer"
        kind = answer if sentence.pairs is not None and self.count == 1 else f"next-{number:03d}"
        kind = f"c{candidate}-{kind}" if self.sampling.candidates > 1 else kind
        fields = {"sentence": f"{index:04d}", "number": f"{number:03d}", "candidate": str(candidate), "seed": str(self.sampling.seed)}
        name = partial(self.naming.name, sentence.about, index, kind, self.suffix, **fields, model=generate_names.model_slug(self.model))
        path = name()
        while path in self.held.taken or path in self._filmed:
            path = name()
        return path

    def _lacks_films(self, held: Iterable[Files]) -> bool:
        """Whether lines name a strip or an animation that a run which was killed before the end of a sentence has not drawn."""
        promised = {path for found in held for path in (found.strip, found.animation) if path is not None}
        return (self.strip or self.animation is not None) and any(not path.exists() for path in promised)

    def _films(self, image: Path, sentence: Sentence, held: dict[Place, Files], images: Collection[Path]) -> tuple[Path | None, list[Path]]:
        """The strip, where one is drawn, and the animations: those of lines that are there, or new names beside the first of ``images``."""
        strip = next((found.strip for found in held.values() if found.strip), None)
        if strip is None and self.strip:
            strip = self._film(image, sentence, "strip", ".png", images)
        animations = []
        for candidate in range(self.sampling.candidates) if self.animation else ():
            own = next((found.animation for (other, _), found in held.items() if other == candidate and found.animation), None)
            kind = f"c{candidate}-animation" if self.sampling.candidates > 1 else "animation"
            animations.append(own or self._film(image, sentence, kind, self.animation or "", images))
        return strip, animations

    def _film(self, image: Path, sentence: Sentence, kind: str, suffix: str, images: Collection[Path]) -> Path:
        """A name beside the images, under another number where there is such a file, or one of them has it."""
        assert self.naming is not None
        folder = f"{image.parent}/"
        naming = self._beside.setdefault(folder, Naming(folder, self.naming.overwrite, aside=True))
        out = self.naming.out
        one_file = out is not None and "{" not in out and not is_folder(out)
        about = {"path": str(image)} if one_file else sentence.about
        path = naming.path(about, 0, kind, suffix)
        while path in self.held.taken or path in images or self.read.has(path):
            path = naming.path(about, 0, kind, suffix)
        self._filmed.add(path)
        return path
