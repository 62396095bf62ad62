"""Where the masks of `visiontk lvm-prompt segment` come from: files, the record of an earlier `visiontk segment`, or a segmenter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visiontk.errors import ItemError, UsageError
from visiontk.records import Item

from . import segment_prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.segment import ObjectMask, Segmenter
    from visiontk.media.sentence_tasks import IndexMap

STAGE = "segment"
_VOID = 255  # beside other numbers: "do not care" in annotations of VOC and DAVIS


class Masks(Protocol):
    """Numbers of things at each pixel of a picture (H, W), 0 for none; None where nothing is known of it. Raises ItemError."""

    def __call__(self, item: Item[Image], image: Image, place: int) -> IndexMap | None: ...

    def pass_over(self, place: int) -> None:
        """The picture of this place needs none."""


class Files:
    """Masks in files: those of a folder go by the picture's name without its suffix, else they are in the order of the pictures."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises UsageError."""
        paths = [Path(name).expanduser() for name in names]
        for path in paths:
            if not path.exists():
                raise UsageError(f"there is no {path}; --masks takes a folder of masks, or a file for each picture")
            if path.is_dir() and len(paths) > 1:
                raise UsageError(f"--masks {path} is a folder and there are other masks; name one folder, or files alone")
        self._folder = paths[0] if paths[0].is_dir() else None
        self._paths = paths
        self._taken = 0
        self._shows: dict[Path, Path] = {}  # whose mask one of the folder is

    def __call__(self, item: Item[Image], image: Image, place: int) -> IndexMap | None:
        path = self._path(item, place)
        if path is None:
            return None
        from visiontk.media.masks import read_index_map

        found = _numbers(read_index_map(path))
        if found.shape != (image.height, image.width):
            size = f"{found.shape[1]}x{found.shape[0]}"
            raise ItemError("bad_prompt", f"the mask {path} has {size} pixels, and the picture {image.width}x{image.height}; give its own")
        return found

    def pass_over(self, place: int) -> None:
        self._taken = min(len(self._paths), place + 1)

    @property
    def left(self) -> int:
        """Files that no picture has taken."""
        return 0 if self._folder else len(self._paths) - self._taken

    def _path(self, item: Item[Image], place: int) -> Path | None:
        if self._folder is None:
            self.pass_over(place)
            return self._paths[place] if place < len(self._paths) else None
        about, frame = Path(str(item.record.get("path", ""))), item.record.get("frame")
        stem, parent = about.stem, about.absolute().parent.name
        # As `visiontk segment --save masks` names those of pictures and of frames, and as data sets do: of a video in its folder.
        names = (f"{parent}/{stem}", stem, f"{stem}-masks") if frame is None else (f"{stem}/{frame:05d}",)
        paths = (self._folder / f"{name}{suffix}" for name in names for suffix in (".png", ".tif", ".tiff", ".bmp", ".gif"))
        path = next((path for path in paths if path.is_file()), None)
        if path is not None and frame is None:
            other = self._shows.setdefault(path, about)
            if other != about and other.resolve() != about.resolve():
                cure = f"put its mask into {self._folder / parent}" if other.parent != about.parent else "name the masks one by one"
                raise ItemError("bad_prompt", f"the mask {path} is that of {other}, which is called alike; {cure}")
        return path


class Segmented:
    """Masks by a segmenter, which is loaded when the first picture needs it; a record that has masks already keeps them."""

    def __init__(self, prompts: segment_prompts.Prompts, load: Callable[[], Segmenter]) -> None:
        self._prompts, self._load = prompts, load
        self._segmenter: Segmenter | None = None

    def __call__(self, item: Item[Image], image: Image, place: int) -> IndexMap | None:
        from visiontk.media.masks import index_map

        known = _recorded(item)
        objects = self._segment(item, image) if known is None else known
        if any(mask.shape != (image.height, image.width) for _, mask in objects):
            raise ItemError("bad_prompt", f"the masks of its record are not of its size, {image.width}x{image.height}; segment it again")
        return index_map(objects, (image.height, image.width))

    def pass_over(self, place: int) -> None:
        return

    def _segment(self, item: Item[Image], image: Image) -> list[tuple[int, NDArray[np.bool_]]]:
        found, _ = self._prompts.of_picture(item.record)
        wanted = segment_prompts.resolve(found, image.width, image.height)
        self._segmenter = self._segmenter or self._load()
        objects = self._segmenter.image(image, wanted) if wanted else []
        pairs = [(one.object_id, one.mask) for one in objects]
        if segment_prompts.auto_frame(found) is not None:
            pairs += _further(self._segmenter, image, objects)
        return pairs


def _further(segmenter: Segmenter, image: Image, known: Sequence[ObjectMask]) -> list[tuple[int, Any]]:
    """Everything else in the picture, the large things first, so that the small ones lie over them."""
    from visiontk.adapters.segment_auto import unknown

    numbers = itertools.count(max((one.object_id for one in known), default=0) + 1)
    return [(next(numbers), one.mask) for one in unknown(segmenter.everything(image, segmenter.knobs), known)]


def _recorded(item: Item[Image]) -> list[tuple[int, Any]] | None:
    """The masks that a line of `visiontk segment` has; None for other lines. Raises ItemError."""
    from visiontk.media.masks import MAX_ID, decode_rle

    value = item.record.get(STAGE)
    if not isinstance(value, dict) or not isinstance(value.get("objects"), list):
        return None
    try:
        found = [(int(one["id"]), decode_rle(one["rle"])) for one in value["objects"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ItemError("bad_record", f'its "{STAGE}" holds no masks as `visiontk segment` writes them') from error
    for number, _ in found:
        if not 1 <= number <= MAX_ID:
            raise ItemError("bad_record", f'its "{STAGE}" numbers an object {number}; `visiontk segment` counts from 1 to {MAX_ID:,}')
    return found


def _numbers(found: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Things counted from 1: a binary mask of 255 shows thing 1, and beside other numbers 255 is none."""
    import numpy as np

    values = [value for value in np.unique(found) if value]
    if values == [_VOID]:
        return (found > 0).astype(np.uint16)
    return np.where(found == _VOID, 0, found).astype(np.uint16)
