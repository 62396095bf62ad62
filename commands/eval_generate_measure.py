"""What models see in generated pictures, and the figures that come of it."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from visiontk import stream
from visiontk.errors import ItemError, OutputError
from visiontk.records import Item, Record

from .eval_generate_images import Picture
from .eval_view import six_digits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.classify import Array, Classifier, Views

INCEPTION = "inception_v3"  # timm's architecture


@dataclass(frozen=True)
class Models:
    """Who names what is to be seen, and who gives the features. They may be the same."""

    classifier: Classifier
    features: Classifier

    @property
    def are_one(self) -> bool:
        return self.classifier is self.features


@dataclass(frozen=True)
class Prepared:
    """A picture as the two models take it, and the colour of its border (3,)."""

    picture: Picture
    views: Views
    feature_views: Views
    border: NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """One picture, looked at.

    Attributes:
        label: the classifier's first answer, by index.
        features: float32 (D,).
        border: the name of the border's colour.
        size: width and height.
    """

    prompt: str | None
    seed: int | None
    label: int
    features: Array
    border: str
    size: tuple[int, int]


class Rows:
    """Features (N, D), spooled to a file that is gone afterwards, so that memory does not grow with the pictures."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as its rows
        self._width = self.count = 0

    def add(self, row: Array) -> None:
        try:
            self._file.write(row.astype("<f4").tobytes())
            self._file.flush()
        except OSError as error:
            where = tempfile.gettempdir()
            raise OutputError(f"features cannot be kept in {where} ({error.strerror}); set TMPDIR to a place with room") from error
        self._width = len(row)
        self.count += 1

    def array(self) -> NDArray[np.float32]:
        """float32 (N, D)."""
        import numpy as np

        if not self.count:
            return np.empty((0, 0), np.float32)
        return np.memmap(self._file, "<f4", "r", shape=(self.count, self._width))


def look(models: Models, items: Iterable[Item[Picture]], workers: int, stats: stream.Stats) -> Iterator[stream.Outcome[Seen]]:
    """What the models see in each picture, in order."""

    def prepare(picture: Picture) -> Prepared:
        import numpy as np

        from visiontk.metrics.borders import border_colour

        views = models.classifier.prepare(picture.image)
        other = views if models.are_one else models.features.prepare(picture.image)
        return Prepared(picture, views, other, border_colour(np.asarray(picture.image)))

    def predict(batch: Sequence[Prepared]) -> list[Seen | ItemError]:
        return _see(models, batch)

    yield from stream.run(items, prepare, predict, batch_size=_batch_size(models), workers=workers, stats=stats)


def look_for_features(
    classifier: Classifier, items: Iterable[Item[Image]], workers: int, stats: stream.Stats
) -> Iterator[stream.Outcome[Array]]:
    """The features alone of each picture, in order."""

    def predict(batch: Sequence[Views]) -> list[Array | ItemError]:
        return [found if isinstance(found, ItemError) else found.embedding for found in classifier.predict_prepared(batch, top_k=1)]

    yield from stream.run(items, classifier.prepare, predict, batch_size=classifier.batch_size, workers=workers, stats=stats)


def _see(models: Models, batch: Sequence[Prepared]) -> list[Seen | ItemError]:
    import numpy as np
    import torch

    from visiontk.tiny.colours import nearest_colour

    if not batch:
        return []
    found = models.classifier.predict_prepared([one.views for one in batch], top_k=1)
    others = found if models.are_one else models.features.predict_prepared([one.feature_views for one in batch], top_k=1)
    borders = nearest_colour(torch.from_numpy(np.stack([one.border for one in batch])))
    seen: list[Seen | ItemError] = []
    for one, answer, other, border in zip(batch, found, others, borders, strict=True):
        if isinstance(answer, ItemError) or isinstance(other, ItemError):
            seen.append(answer if isinstance(answer, ItemError) else other)  # type: ignore[arg-type]
            continue
        about, label = one.picture, answer.labels[0].index
        seen.append(Seen(about.prompt, about.seed, label, other.embedding, border, about.image.size))
    return seen


class Tally:
    """All figures of a run but the distances; filled picture by picture."""

    def __init__(self, labels: Sequence[str]) -> None:
        from visiontk.metrics.named import Names

        self._labels, self._names = labels, Names(labels)
        self._named: Counter[int] = Counter()
        self._right: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()
        self.rows = Rows()
        self._prompts, self._seeds = array("q"), array("q")

    def add(self, seen: Seen) -> Record:
        """One picture more; returns what its line says."""
        from visiontk.metrics.named import background
        from visiontk.tiny.colours import COLOURS

        self._counts["images"] += 1
        self._keep(seen)
        if seen.prompt is None:
            self._counts["without_prompt"] += 1
            return {"seen": self._labels[seen.label]}
        line: Record = {"prompt": seen.prompt} | ({} if seen.seed is None else {"seed": seen.seed})
        named = self._names.find(seen.prompt)
        self._counts["named" if len(named) == 1 else "several" if named else "unnamed"] += 1
        if len(named) == 1:
            (label,) = named
            self._named[label] += 1
            self._right[label] += label == seen.label
            line["named"] = self._labels[label]
        line["seen"] = self._labels[seen.label]
        if "named" in line:
            line["right"] = named == {seen.label}
        colour = background(seen.prompt, COLOURS)
        if colour is not None:
            right = colour == seen.border
            self._counts["backgrounds"] += 1
            self._counts["backgrounds_right"] += right
            line["background"] = {"named": colour, "seen": seen.border, "right": right}
        return line

    def classes(self) -> Iterator[Record]:
        """One line for each class that prompts have named, in the classifier's order."""
        for label, count in sorted(self._named.items()):
            right = self._right[label]
            yield {"class": self._labels[label], "images": count, "right": right, "accuracy": six_digits(right / count)}

    def totals(self) -> Record:
        """Counts and accuracies; what nothing is known of is left out."""
        counts = self._counts
        found: Record = {"images": counts["images"]}
        if counts["named"]:
            found["accuracy"] = six_digits(self._right.total() / counts["named"])
            found["class_accuracy"] = six_digits(sum(self._right[label] / count for label, count in self._named.items()) / len(self._named))
        found |= {name: counts[name] for name in ("named", "several", "unnamed", "without_prompt")}
        if counts["backgrounds"]:
            found["background_accuracy"] = six_digits(counts["backgrounds_right"] / counts["backgrounds"])
            found["backgrounds"] = counts["backgrounds"]
        return found

    def diversity(self) -> Record | None:
        """Over prompts with several seeds; None where there is none."""
        import numpy as np

        from visiontk.metrics.diversity import diversity

        prompts = np.frombuffer(self._prompts, np.int64)
        known = np.flatnonzero(prompts)
        found = diversity(self.rows.array(), known, prompts[known], np.frombuffer(self._seeds, np.int64)[known])
        return {"value": six_digits(found[0]), "prompts": found[1]} if found else None

    def _keep(self, seen: Seen) -> None:
        """Of prompt and seed 64 bits each, so that millions of them fit; 0 is no prompt. Pictures without a seed all count as different."""
        self.rows.add(seen.features)
        self._prompts.append(0 if seen.prompt is None else _digest(seen.prompt))
        self._seeds.append(_digest(f"row {self.rows.count}" if seen.seed is None else str(seen.seed)))


def distances(models: Models, ours: Rows, theirs: Rows, reference: str, seed: int, warn: Callable[[str], None]) -> Record:
    """The Fréchet and the kernel distance of two sets of features; nothing where there are too few pictures."""
    from visiontk.metrics.distances import frechet_distance, gaussian, kernel_distance

    fewest = min(ours.count, theirs.count)
    if fewest < 2:
        warn(f"distances need two pictures at least, and there are {ours.count} and {theirs.count} of the reference; they are left out")
        return {}
    first, second = ours.array(), theirs.array()
    gaussians = gaussian(first), gaussian(second)
    if any(one.is_singular for one in gaussians):
        warn(
            f"{fewest} pictures are few for {first.shape[1]} features: their covariance is singular and the Fréchet distance too large; "
            "compare it only between sets of that many pictures, or use more than there are features"
        )
    names = ("FID", "KID") if is_inception(models.features) else ("Fréchet distance", "kernel distance")
    about = {"features": models.features.name, "reference": reference, "reference_images": theirs.count}
    kernel = kernel_distance(first, second, seed=seed)
    spread = {} if kernel.error is None else {"error": six_digits(kernel.error)}
    return {
        "frechet": {"name": names[0], "value": six_digits(frechet_distance(*gaussians)), **about},
        "kernel": {"name": names[1], "value": six_digits(kernel.value), **spread, "subsets": kernel.subsets, "size": kernel.size, **about},
    }


def is_inception(classifier: Any) -> bool:
    """Whether the features are those of an Inception v3, and their Fréchet distance may be called FID."""
    return str(classifier.model.pretrained_cfg.get("architecture", "")) == INCEPTION


def _digest(text: str) -> int:
    """64 bits that stand for a text, the same in every run and never 0."""
    found = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)
    return found or 1


def _batch_size(models: Models) -> int:
    return min(models.classifier.batch_size, models.features.batch_size)
