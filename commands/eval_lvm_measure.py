"""A large vision model over sentences: what each token costs, what it answers to pairs, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visiontk import stream
from visiontk.errors import ItemError, UsageError
from visiontk.records import Item, Record

from .eval_lvm_sentences import PLAIN, Sentence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from visiontk.adapters.classify import Classifier
    from visiontk.adapters.lvm import Sampling, VisualSentenceModel
    from visiontk.metrics.sentences import ByContext, Costs

BATCH = {"cuda": 16, "mps": 4}  # sentences that are answered at once; else 4


@dataclass(frozen=True)
class Models:
    """The model that is measured, how it answers, and who sees how far its pictures are from the true ones."""

    lvm: VisualSentenceModel
    sampling: Sampling
    features: Classifier

    @property
    def batch_size(self) -> int:
        runtime = self.lvm.runtime
        return runtime.batch_size or BATCH.get(runtime.device.type, 4)


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

    def line(self) -> Record:
        if self.ious is not None:
            return {"mIoU": number(sum(self.ious) / len(self.ious))} if self.ious else {}
        assert self.mse is not None and self.distance is not None, "of pictures both are known"
        return {"mse": number(self.mse), "distance": number(self.distance)}


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


def _measure(models: Models, batch: Sequence[Sentence]) -> Iterator[Measured]:
    prompts = [models.lvm.encode(one.frames) for one in batch]
    asked = [place for place, one in enumerate(batch) if one.truth is not None]
    answers: dict[int, Answer] = {}
    if asked:
        frames = next(models.lvm.continue_([prompts[place] for place in asked], 1, models.sampling))
        made = [frame.image for frame in frames]
        answers = dict(zip(asked, _compare(models.features, made, [batch[place] for place in asked]), strict=True))
    for place, (one, prompt) in enumerate(zip(batch, prompts, strict=True)):
        yield Measured(one.task, _costs(models.lvm, one, prompt), answers.get(place), len(one.frames) // 2, one.left_out)


def _costs(lvm: VisualSentenceModel, sentence: Sentence, prompt: Any) -> NDArray[np.float32]:
    import torch

    whole = prompt if sentence.truth is None else torch.cat([prompt, lvm.encode([sentence.truth])])
    costs: NDArray[np.float32] = lvm.score(whole).numpy()
    return costs


def _compare(features: Classifier, made: Sequence[Image], sentences: Sequence[Sentence]) -> list[Answer]:
    """Answers against the true ones, which are all there."""
    import numpy as np

    from visiontk.metrics.sentences import colour_map, mask_ious, squared_error

    truths = [one.truth for one in sentences if one.truth is not None]
    pictures = [place for place, one in enumerate(sentences) if one.objects is None]
    distances = dict(
        zip(pictures, _distances(features, [made[place] for place in pictures], [truths[place] for place in pictures]), strict=True)
    )
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

    if not made:
        return []
    with memory_errors():
        pixels = [features.normalise([features.prepare(image) for image in images]) for images in (made, truths)]
        first, second = (feature_maps(features.model, some) for some in pixels)
        return [float(distance) for distance in perceptual_distance(first, second).cpu()]


def check_features(features: Classifier) -> None:
    """Raise UsageError for a network that shows no features of its layers."""
    if not hasattr(features.model, "forward_intermediates"):
        raise UsageError(f"{features.name} gives no features of its layers; name another with --features")


@dataclass
class _Task:
    """The figures of one task so far."""

    costs: ByContext
    answers: list[Answer] = field(default_factory=list)
    answer_costs: list[Costs] = field(default_factory=list)
    pairs: set[int] = field(default_factory=set)


class Tally:
    """All figures of a run; filled sentence by sentence."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}
        self.sentences = self.shortened = 0

    def add(self, one: Measured) -> Record:
        """One sentence more; returns what its line says."""
        from visiontk.metrics.sentences import ByContext, Costs

        task = self._tasks.setdefault(one.task, _Task(ByContext()))
        task.costs.add(one.costs)
        self.sentences += 1
        self.shortened += one.left_out > 0
        alone = ByContext()
        alone.add(one.costs)
        line: Record = {"task": one.task, **_figures(alone.whole())}
        if one.answer is not None:
            task.answers.append(one.answer)
            task.pairs.add(one.pairs)
            costs = Costs()
            costs.add(one.costs[-1])
            task.answer_costs.append(costs)
            line |= {"answer_perplexity": number(costs.perplexity), **one.answer.line()}
        return line

    def contexts(self) -> Iterator[Record]:
        """One line for each task and number of frames before."""
        from visiontk.metrics.sentences import PERPLEXITY

        for name, task in self._tasks.items():
            for context, costs in task.costs:
                kind = "frame" if name == PLAIN else ("image", "answer")[context % 2]
                yield {"protocol": PERPLEXITY, "task": name, "kind": kind, "context": context, **_figures(costs)}

    def answers(self, features: str) -> Iterator[Record]:
        """One line for each task of pairs whose true answers are known."""
        from visiontk.metrics.sentences import PAIRS, Costs

        for name, task in self._tasks.items():
            if not task.answers:
                continue
            costs = Costs()
            for one in task.answer_costs:
                costs.join(one)
            line: Record = {"protocol": PAIRS, "task": name, "answers": len(task.answers)}
            line |= {"pairs": [min(task.pairs), max(task.pairs)], "perplexity": number(costs.perplexity)}
            ious = [iou for answer in task.answers for iou in answer.ious or ()]
            if ious:
                line |= {"mIoU": number(_mean(ious)), "things": len(ious)}
            pictures = [answer for answer in task.answers if answer.mse is not None]
            if pictures:
                line["mse"] = number(_mean([one.mse for one in pictures if one.mse is not None]))
                distance = number(_mean([one.distance for one in pictures if one.distance is not None]))
                line["distance"] = {"name": "LPIPS-like", "value": distance, "features": features}
            yield line

    def totals(self) -> Record:
        """Over all frames of all sentences."""
        from visiontk.metrics.sentences import PERPLEXITY, Costs

        whole = Costs()
        for task in self._tasks.values():
            whole.join(task.costs.whole())
        return {"protocol": PERPLEXITY, "sentences": self.sentences, **_figures(whole)}


def _figures(costs: Costs) -> Record:
    """What is known of costs; of a single token that is given nothing there is no perplexity."""
    about: Record = {"frames": costs.frames, "tokens": costs.tokens}
    return about | ({"nll": number(costs.mean), "perplexity": number(costs.perplexity)} if costs.tokens else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def number(value: float) -> float:
    return float(f"{value:.6g}")
