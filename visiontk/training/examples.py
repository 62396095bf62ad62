"""Which image files belong to which class: an ImageFolder tree, or a file of JSON lines with ``path`` and ``label``."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontk.errors import UsageError
from visiontk.listing import walk
from visiontk.media.images import IMAGE_SUFFIXES

Example = tuple[str, int]  # a path and the place of its class in `Examples.classes`
Named = tuple[str, str, str]  # path, label, and "train", "val" or "" where nobody said
VAL_NAMES = ("val", "validation", "valid")
_SPLIT_NAMES = {"train", "test", *VAL_NAMES}


@dataclass(frozen=True)
class Examples:
    """Image files with their classes. ``origin`` says in words how they were split, ``warnings`` what of the data is not used."""

    classes: list[str]
    train: list[Example]
    val: list[Example]
    origin: str
    warnings: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A hash of all names and labels, so that a run is not gone on with on other data."""
        return hashlib.sha256(json.dumps([self.classes, self.train, self.val]).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read_examples(data: str, val_share: float, seed: int) -> Examples:
    """Read DATA, a folder or a JSONL file.

    What is not split already, by folders ``train/`` and ``val/`` (or ``validation/`` or ``valid/``) or by a ``split`` in the lines, is
    split here, class by class; so are training images that nothing to validate on comes with.

    Raises:
        UsageError: there is no such data, a class is empty, or there is only one.
    """
    path, warnings = Path(data).expanduser(), list[str]()
    if path.is_dir():
        named, warnings = _read_folder(path)
    elif path.is_file():
        named = _read_lines(path)
    else:
        raise UsageError(f"there is no folder or file {data}; name an ImageFolder (DATA/CLASS/*.jpg), a JSONL file, or tiny")
    classes = sorted({label for _, label, _ in named})
    if len(classes) < 2:
        raise UsageError(f"{data} holds {len(classes)} class{'' if classes else 'es'}; a classifier needs two at least")
    places = {name: place for place, name in enumerate(classes)}
    train = [(file, places[label]) for file, label, split in named if split == "train"]
    val = [(file, places[label]) for file, label, split in named if split == "val"]
    open_ = [(file, places[label]) for file, label, split in named if not split]
    origin = "its own train and val"
    if not val:
        # Where only some are called training images, those stay it.
        kept, shared = (train, open_) if open_ else ([], train)
        more, val = split_by_class(shared, val_share, seed)
        train, origin = kept + more, f"a share of {val_share:g} for val, drawn with seed {seed}"
    else:
        train += open_
    _check_classes(data, classes, train, val)
    return Examples(classes, train, val, origin, tuple(warnings))


def split_by_class(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Train and val, with ``share`` of each class in the latter: at least one image, and never a class's only one."""
    chosen: set[int] = set()
    members: dict[int, list[int]] = {}
    for position, (_, label) in enumerate(examples):
        members.setdefault(label, []).append(position)
    for label in sorted(members):
        positions = members[label]
        count = min(len(positions) - 1, max(1, round(share * len(positions)))) if share else 0
        chosen |= set(random.Random(f"{seed}-{label}").sample(positions, count))
    train = [example for position, example in enumerate(examples) if position not in chosen]
    return train, [examples[position] for position in sorted(chosen)]


def _read_folder(root: Path) -> tuple[list[Named], list[str]]:
    """The images of an ImageFolder tree, and what is to be said of those that are not used."""
    names = [folder.name for folder in _folders(root)]
    if "train" not in names or not _holds_classes(root / "train"):
        if "train" in names and set(names) <= _SPLIT_NAMES:
            raise UsageError(f"{root / 'train'} is not sorted by class; put its images into folders, {root / 'train'}/CLASS/*.jpg")
        return _read_classes(root, ""), []
    val = next((name for name in VAL_NAMES if name in names and _holds_classes(root / name)), None)
    named = _read_classes(root / "train", "train") + (_read_classes(root / val, "val") if val else [])
    unused = [str(root / name) for name in names if name not in ("train", val) and _images(root / name)]
    used = f"{root / 'train'}{f' and {root / val}' if val else ''}"
    return named, [f"{', '.join(unused)} {'is' if len(unused) == 1 else 'are'} not used, only {used}"] if unused else []


def _holds_classes(folder: Path) -> bool:
    """Whether this is a split: folders in it and no images beside them. A class by the name of ``train`` has images."""
    return bool(_folders(folder)) and not any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _images(folder: Path) -> list[str]:
    return [path for path in walk(str(folder)) if Path(path).suffix.lower() in IMAGE_SUFFIXES]


def _read_classes(root: Path, split: str) -> list[Named]:
    named: list[Named] = []
    for folder in _folders(root):
        files = _images(folder)
        if not files:
            raise UsageError(f"the class folder {folder} holds no images; fill or remove it")
        named += [(path, folder.name, split) for path in files]
    return named


def _read_lines(file: Path) -> list[Named]:
    named: list[Named] = []
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as JSON lines ({error}); name another file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path, label, split, frame = entry["path"], entry["label"], entry.get("split", ""), entry.get("frame")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f'{file}, line {number}: not a JSON object with "path" and "label"; mend the line') from error
        split = "val" if split in VAL_NAMES else split
        if split not in ("", "train", "val") or not isinstance(path, str):
            raise UsageError(f'{file}, line {number}: "split" is train or val and "path" a string; mend the line')
        if isinstance(label, bool) or not isinstance(label, str | int | float):
            raise UsageError(f'{file}, line {number}: "label" is text or a number and not {json.dumps(label)[:40]}; mend the line')
        if frame is not None:
            raise UsageError(f"{file}, line {number}: frames of videos and animations are not trained on; write them as pictures first")
        # os.path, because Path.exists raises for names that no file can have.
        beside = str(file.parent / path)
        there = os.path.exists(path) or not os.path.exists(beside)  # noqa: PTH110
        named.append((path if there else beside, str(label), split))
    return named


def _check_classes(data: str, classes: Sequence[str], train: Iterable[Example], val: Sequence[Example]) -> None:
    counted = Counter(label for _, label in train)
    missing = [name for place, name in enumerate(classes) if not counted[place]]
    if missing:
        raise UsageError(f"{data} has no training images of {', '.join(missing[:5])}; add some, or remove the class")
    if not val:
        raise UsageError(f"{data} leaves no images to validate on; pass --val-share 0.1, or add a val folder")
