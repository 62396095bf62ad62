"""From what is asked to items for the stream: each picture with its name, known before the model is asked for it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from visiontk import orders
from visiontk.artefacts import Naming
from visiontk.errors import ItemError, ModelUnavailable, UsageError
from visiontk.orders import Defaults, Order, Wanted
from visiontk.records import Item, Record

from . import generate_names, generate_record
from .generate_held import HeldPictures
from .generate_inputs import Broken, Init, Mask, init_file, init_item, mask_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.generate import Generator
    from visiontk.adapters.generate_types import Request

_SIDE = 512  # of the image that stands in for an init image while options are checked; each model takes it


@dataclass(frozen=True)
class Planned:
    """One picture that is wanted.

    Attributes:
        wanted: prompt, seed and options.
        init, mask: what it is made of, if anything.
        index: its place in the run.
        group: which order it is of; the pictures of a group stand together on the contact sheet.
        record: the keys of the piped record that pass on.
        path: the file; None where its bytes go to the output.
        replace: whether that file may be replaced.
    """

    wanted: Wanted
    init: Init | None
    mask: Mask | None
    index: int
    group: int
    record: Record
    path: Path | None = None
    replace: bool = False

    @property
    def asked(self) -> Record:
        """The line of a picture that failed, which asks for it again where it is read as a prompt."""
        about: Record = {"prompt": self.wanted.prompt, "seed": self.wanted.seed, **orders.said(self.wanted.options)}
        if self.init is not None and "path" not in self.record:
            about["init"] = self.init.about["path"]
        if self.mask is not None:
            about["mask"] = self.mask.text
        return {**{key: value for key, value in self.record.items() if key != "n"}, **about}

    def line(self, path: str) -> Record:
        """The line of a picture that was made: the record's own keys, about the new file.

        What was asked for is in the stage's value; a line that kept it would ask the next stage for the same again.
        """
        kept = {key: value for key, value in self.record.items() if key not in ("frame", "time", "n", "init", "mask")}
        if "seed" in kept:
            kept["seed"] = self.wanted.seed
        return {**kept, "path": path} if "path" in kept else {"path": path, **kept}


@dataclass(frozen=True)
class Ready:
    """A picture whose request the model can take. ``made_from`` is what its line says of that."""

    planned: Planned
    request: Request
    made_from: Record


@dataclass(frozen=True)
class Asked(Item[Ready]):
    """An item of the plan. ``words`` say which it is, in messages; a line that is broken has no picture."""

    words: str = ""
    planned: Planned | None = None

    @property
    def where(self) -> str:
        return self.words


@dataclass
class Plan:
    """What all pictures of a run share.

    Attributes:
        key: the stage's, where results stand in the record.
        setup: how the model was loaded, as lines say it.
        init, mask: those of the command line.
        naming: None where one picture's bytes go to the output.
        held: the lines that a stopped run left.
        metadata: whether files say how they were made.
        keep: of how many planned pictures ``pictures`` has the first ones, in order, for the contact sheet.
        held_places: the index of those that have a line and a file already.
    """

    key: str
    generator: Generator
    setup: Record
    defaults: Defaults
    init: Init | None
    mask: str | None
    naming: Naming | None
    suffix: str
    held: HeldPictures
    metadata: bool = True
    keep: int = 0
    pictures: list[Planned] = field(default_factory=list)
    held_places: set[int] = field(default_factory=set)
    _index: int = 0
    _group: int = 0
    _begun: bool = False

    @property
    def count(self) -> int:
        """How many pictures were planned."""
        return self._index

    def check(self, *, init: bool, mask: bool) -> None:
        """Raise UsageError for options of the command line that the model ignores or cannot do, in any combination that is swept.

        Raises ModelUnavailable for a swept LoRA that cannot be had.
        """
        for combination in orders.product(self.defaults.sweeps):
            self._check({**self.defaults.options, **combination}, init=init, mask=mask)
            for lora in combination.get("lora", ()):
                self.generator.lora_revision(lora)

    def warm(self) -> None:
        """Let the model learn of all its tasks here, and not on several threads beside a picture in the making."""
        for init, mask in ((False, False), (True, False), (True, True)):
            with contextlib.suppress(UsageError):
                self._check({}, init=init, mask=mask)

    def items(self, asked: Iterable[tuple[Order, Init | None] | Broken | Item[Any]]) -> Iterator[Item[Any]]:
        """An item for each picture, for each broken line, and for each line that passes through."""
        for one in asked:
            if isinstance(one, Item):
                if not self.held.take(one.record):
                    yield one
            elif isinstance(one, Broken):
                yield from self._broken(one)
            else:
                yield from self._order(*one)

    def _order(self, order: Order, init: Init | None) -> Iterator[Item[Any]]:
        init = init_file(order.init) if order.init is not None else init or self.init
        text = self.mask if order.mask is None else order.mask
        try:
            mask = None if text is None else mask_of(text, order.record)
            if mask and not init:
                raise UsageError("there is a mask and no init image; name one with --init or as init")
            if order.options or (order.init is not None and order.where):
                for combination in orders.product(self.defaults.sweeps):
                    self._check({**self.defaults.options, **combination, **order.options}, init=init is not None, mask=mask is not None)
            wanted = orders.pictures(order, self.defaults)
            first = next(wanted)
        except UsageError as error:
            if not order.where:
                raise
            yield from self._broken(Broken(order.record or {"input": order.text}, ItemError("bad_prompt", f"{order.where}: {error}")))
            return
        for one in itertools.chain((first,), wanted):
            yield from self._picture(Planned(one, init, mask, self._index, self._group, order.record))
            self._index += 1
        self._group += 1

    def _check(self, options: orders.Options, *, init: bool, mask: bool) -> None:
        import numpy as np
        from PIL import Image

        options = {name: value for name, value in options.items() if name != "seed"}
        picture = Image.new("RGB", (_SIDE, _SIDE)) if init else None
        self.generator.resolve(_request("x", 0, options, picture, np.ones((_SIDE, _SIDE), bool) if mask else None))

    def _broken(self, broken: Broken) -> Iterator[Item[Any]]:
        if self.held.take({**broken.record, self.key: {"error": {}}}):
            return
        text = str(broken.record.get("input", broken.record.get("path", "")))
        yield Asked(broken.record, partial(_fail, broken.error), f'"{_shortened(text)}"')

    def _picture(self, planned: Planned) -> Iterator[Item[Any]]:
        held = self._held(planned) if self.held else None
        load: Callable[[], Ready]
        try:
            planned = self._named(planned, held)
            load = partial(self._load, planned)
        except ItemError as error:
            load = partial(_fail, error)
        if planned.index < self.keep:
            init = planned.init and Init(planned.init.about, partial(_fail, ItemError("broken", "it is not kept")))
            self.pictures.append(replace(planned, init=init, mask=None, record={}))  # without the pixels
        if held:
            self.held_places.add(planned.index)
        if held is None:
            self._begun = True
            yield Asked(planned.record, load, f'"{_shortened(planned.wanted.prompt)}" seed {planned.wanted.seed}', planned)

    def _load(self, planned: Planned) -> Ready:
        """Raises ItemError."""
        wanted, init, mask = planned.wanted, planned.init, planned.mask
        picture, pixels = init.image if init else None, mask.pixels if mask else None
        try:
            request = self.generator.resolve(_request(wanted.prompt, wanted.seed, wanted.options, picture, pixels))
            values = init.value if init else None, mask.value if mask else None
            return Ready(planned, request, generate_record.made_from(self.generator, request, self.setup, *values))
        except (UsageError, ModelUnavailable) as error:
            raise ItemError("bad_prompt", str(error)) from error

    def _held(self, planned: Planned) -> str | None:
        """The file of a picture that has its line already, empty where that says it failed; None where it has none."""
        try:
            made_from = self._load(planned).made_from
        except ItemError:
            made_from = None
        if made_from is not None and (path := self.held.take_picture({self.key: made_from})) is not None:
            return path
        return "" if self.held.take({**planned.asked, self.key: {"error": {}}}) else None

    def _named(self, planned: Planned, held: str | None) -> Planned:
        """With its file's name. Those of held pictures are counted as well, so that the others come to the names of a run without a stop.

        Raises:
            ItemError: ``exists``.
        """
        if self.naming is None:
            return planned
        wanted = planned.wanted
        about = planned.init.about if planned.init else {}
        fields = {"seed": str(wanted.seed), "prompt_slug": generate_names.slug(wanted.prompt)}
        name = partial(
            self.naming.path, about, planned.index, "", self.suffix, model=generate_names.model_slug(self.generator.name), **fields
        )
        allowed, self.naming.overwrite = self.naming.overwrite, True
        try:
            path = name()
            while held is None and path in self.held.files:  # of another picture, where the inputs came in another order
                path = name()
        finally:
            self.naming.overwrite = allowed
        if held is not None:
            return replace(planned, path=Path(held) if held else None)
        there = os.path.lexists(path)
        if there and not (allowed or self._is_left_over(planned, path)):
            raise ItemError("exists", f"{path} exists; pass --overwrite, or choose another place with -o")
        return replace(planned, path=path, replace=allowed or there)

    def _is_left_over(self, planned: Planned, path: Path) -> bool:
        """Whether a file is what a stopped run wrote of the picture whose line it wrote no more: that can be the next one alone.

        The file itself must say so; one without metadata could be anybody's.
        """
        if not self.held.goes_on or self._begun or not self.metadata:
            return False
        try:
            return self.held.made_same(path, {self.key: self._load(planned).made_from})
        except ItemError:
            return False


def pairs(items: Iterable[Item[Any]], given: list[Order | Broken]) -> Iterator[tuple[Order, Init | None] | Broken | Item[Any]]:
    """Piped init images with the prompts that they go with: the record's own, or each of those ``given``."""
    for item in items:
        if item.load is None:
            yield item
            continue
        init, where = init_item(item), item.where
        try:
            own = orders.from_record(item.record, where, piped=True)
        except UsageError as error:
            yield Broken(item.record, ItemError("bad_record", f"{where}: {error}"))
            continue
        own = replace(own, init=None)  # what comes through the pipe is changed, and not what that was made of
        for order in given if own.prompt is None and given else [own]:
            yield order if isinstance(order, Broken) else (_joined(own, order), init)


def _request(prompt: str, seed: int, options: orders.Options, init: Image | None, mask: NDArray[np.bool_] | None) -> Request:
    from visiontk.adapters.generate_types import Request

    others = {name: value for name, value in options.items() if name != "lora"}
    return Request(prompt, seed, **others, loras=options.get("lora"), init=init, mask=mask)


def _joined(own: Order, order: Order) -> Order:
    """An order of the command line for a record: what the order says counts before what the record says."""
    seeds, count = (order.seeds, order.count) if order.seeds or order.count else (own.seeds, own.count)
    options, mask = {**own.options, **order.options}, own.mask if order.mask is None else order.mask
    return replace(own, prompt=order.prompt, options=options, seeds=seeds, count=count, init=order.init or own.init, mask=mask)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _fail(error: ItemError) -> NoReturn:
    raise error
