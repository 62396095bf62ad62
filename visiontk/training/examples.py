"""Which image files belong to which class: an ImageFolder tree, or a file of JSON lines with ``path`` and ``label``."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontk.errors import UsageError
from visiontk.media.images import IMAGE_SUFFIXES
from visiontk.sources import walk

Example = tuple[str, int]  # a path and the place of its class in `Examples.classes`
Named = tuple[str, str, str]  # path, label, and "train", "val" or "" where nobody said


@dataclass(frozen=True)
class Examples:
    """Image files with their classes. ``origin`` says in words how they were split."""

    classes: list[str]
    train: list[Example]
    val: list[Example]
    origin: str

    def fingerprint(self) -> str:
        """A hash of all names and labels, so that a run is not gone on with on other data."""
        return hashlib.sha256(json.dumps([self.classes, self.train, self.val]).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read_examples(data: str, val_share: float, seed: int) -> Examples:
    """Read DATA, a folder or a JSONL file.

    What is not split already, by folders ``train/`` and ``val/`` or by a ``split`` in the lines, is split here, class by class.

    Raises:
        UsageError: there is no such data, a class is empty, or there is only one.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        named = _read_folder(path)
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
    origin = "its own train and val" if train or val else f"a share of {val_share:g} for val, drawn with seed {seed}"
    if open_ and not val:
        more, val = split_by_class(open_, val_share, seed)
        train += more
    else:
        train += open_
    _check_classes(data, classes, train, val)
    return Examples(classes, train, val, origin)


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


def _read_folder(root: Path) -> list[Named]:
    splits = [name for name in ("train", "val") if (root / name).is_dir()]
    if "train" not in splits:
        return _read_classes(root, "")
    return [example for name in splits for example in _read_classes(root / name, name)]


def _read_classes(root: Path, split: str) -> list[Named]:
    named: list[Named] = []
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        files = [path for path in walk(str(folder)) if Path(path).suffix.lower() in IMAGE_SUFFIXES]
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
            path, label, split = entry["path"], str(entry["label"]), entry.get("split", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f'{file}, line {number}: not a JSON object with "path" and "label"; mend the line') from error
        if split not in ("", "train", "val") or not isinstance(path, str):
            raise UsageError(f'{file}, line {number}: "split" is train or val and "path" a string; mend the line')
        beside = file.parent / path
        named.append((path if Path(path).exists() or not beside.exists() else str(beside), label, split))
    return named


def _check_classes(data: str, classes: Sequence[str], train: Iterable[Example], val: Sequence[Example]) -> None:
    counted = Counter(label for _, label in train)
    missing = [name for place, name in enumerate(classes) if not counted[place]]
    if missing:
        raise UsageError(f"{data} has no training images of {', '.join(missing[:5])}; add some, or remove the class")
    if not val:
        raise UsageError(f"{data} leaves no images to validate on; pass --val-share 0.1, or add a val folder")
