"""A large vision model over sentences: what each token costs, and what it answers to pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visiontk import stream
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item

from .eval_lvm_sentences import Sentence
from .lvm_room import fitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.classify import Classifier
    from visiontk.adapters.lvm import Sampling, VisualSentenceModel

BATCH = {"cuda": 16, "mps": 4}  # sentences that are answered at once; else 4


@dataclass
class Models:
    """The model that is measured, how it answers, and who sees how far its pictures are from the true ones.

    Attributes:
        load: of who sees that.
        features: the same once a picture has needed it, else None.
    """

    lvm: VisualSentenceModel
    sampling: Sampling
    load: Callable[[], Classifier]
    features: Classifier | None = None

    def seeing(self) -> Classifier:
        """Raises UsageError for a network that shows no features of its layers, and what loading it does."""
        self.features = self.features or self.load()
        if not hasattr(self.features.model, "forward_intermediates"):
            raise UsageError(f"{self.features.name} gives no features of its layers; name another with --features")
        return self.features

    @property
    def batch_size(self) -> int:
        """Sentences that are answered at once: ``--batch-size``, or a few, and on a CPU no more than there is memory for."""
        runtime = self.lvm.runtime
        return runtime.batch_size or fitting(BATCH.get(runtime.device.type, 4), self.lvm)


@dataclass(frozen=True)
class Answer:
    """What came of one query.

    Attributes:
        ious: of each thing of the true masks; None for other tasks.
        mse, distance: of other pictures; None for masks.
    """

    ious: list[float] | None = None
    mse: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Measured:
    """One sentence: costs in nats (frames, tokens), those of the true answer the last where there is one, and what was answered."""

    task: str
    costs: NDArray[np.float32]
    answer: Answer | None
    pairs: int
    left_out: int


def measure(models: Models, items: Iterable[Item[Sentence]], workers: int, stats: stream.Stats) -> Iterator[stream.Outcome[Measured]]:
    """Each sentence with its figures, in order."""

    def predict(batch: Sequence[Sentence]) -> list[Measured | ItemError]:
        return [*_measure(models, batch)]

    yield from stream.run(items, _itself, predict, batch_size=models.batch_size, workers=workers, stats=stats)


def _itself(sentence: Sentence) -> Sentence:
    return sentence


def _measure(models: Models, batch: Sequence[Sentence]) -> Iterator[Measured | ItemError]:
    prompts = [models.lvm.encode(one.frames) for one in batch]
    asked = [place for place, one in enumerate(batch) if one.truth is not None]
    answers: dict[int, Answer] = {}
    failed: set[int] = set()
    if asked:
        frames = next(models.lvm.continue_([prompts[place] for place in asked], 1, models.sampling))
        made = [frame.image for frame in frames]
        failed = {place for place, frame in zip(asked, frames, strict=True) if not math.isfinite(frame.nll)}
        answers = dict(zip(asked, _compare(models, made, [batch[place] for place in asked]), strict=True))
    for place, (one, prompt) in enumerate(zip(batch, prompts, strict=True)):
        try:
            costs = _costs(models.lvm, one, prompt)
        except ItemError as error:
            yield error
            continue
        found = Measured(one.task, costs, answers.get(place), len(one.frames) // 2, one.left_out)
        yield models.lvm.not_finite() if place in failed else found


def _costs(lvm: VisualSentenceModel, sentence: Sentence, prompt: Any) -> NDArray[np.float32]:
    import torch

    whole = prompt if sentence.truth is None else torch.cat([prompt, lvm.encode([sentence.truth])])
    costs: NDArray[np.float32] = lvm.score(whole).numpy()
    return costs


def _compare(models: Models, made: Sequence[Image], sentences: Sequence[Sentence]) -> list[Answer]:
    """Answers against the true ones, which are all there."""
    import numpy as np

    from visiontk.metrics.sentences import colour_map, mask_ious, squared_error

    truths = [one.truth for one in sentences if one.truth is not None]
    pictures = [place for place, one in enumerate(sentences) if one.objects is None]
    distances: dict[int, float] = {}
    if pictures:
        pairs = [made[place] for place in pictures], [truths[place] for place in pictures]
        distances = dict(zip(pictures, _distances(models.seeing(), *pairs), strict=True))
    answers: list[Answer] = []
    for place, (image, truth, one) in enumerate(zip(made, truths, sentences, strict=True)):
        if one.objects is not None:
            found = colour_map(np.asarray(image), one.palette)
            answers.append(Answer(ious=mask_ious(found, one.objects.astype(np.intp))))
        else:
            answers.append(Answer(mse=squared_error(np.asarray(image), np.asarray(truth)), distance=distances[place]))
    return answers


def _distances(features: Classifier, made: Sequence[Image], truths: Sequence[Image]) -> list[float]:
    from visiontk.metrics.perceptual import feature_maps, perceptual_distance
    from visiontk.runtime import memory_errors

    with memory_errors():
        pixels = [features.normalise([features.whole(image) for image in images]) for images in (made, truths)]
        first, second = (feature_maps(features.model, some) for some in pixels)
        return [float(distance) for distance in perceptual_distance(first, second).cpu()]
