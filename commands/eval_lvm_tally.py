"""The figures of `visiontk eval lvm`: sums over sentences, and the lines that come of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from visiontk.records import Record

from .eval_lvm_sentences import PLAIN
from .eval_view import six_digits

if TYPE_CHECKING:
    from visiontk.metrics.sentences import ByContext, Costs

    from .eval_lvm_measure import Answer, Measured


@dataclass
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return six_digits(self.total / self.count) if self.count else math.nan


@dataclass
class _Answers:
    """Figures of answers so far."""

    count: int = 0
    iou: _Mean = field(default_factory=_Mean)
    mse: _Mean = field(default_factory=_Mean)
    distance: _Mean = field(default_factory=_Mean)

    def add(self, answer: Answer) -> None:
        self.count += 1
        for iou in answer.ious or ():
            self.iou.add(iou)
        if answer.mse is not None and answer.distance is not None:
            self.mse.add(answer.mse)
            self.distance.add(answer.distance)

    def figures(self) -> Record:
        found: Record = {"mIoU": self.iou.value} if self.iou.count else {}
        return found | ({"mse": self.mse.value, "distance": self.distance.value} if self.mse.count else {})


@dataclass
class _Task:
    """The figures of one task so far.

    Attributes:
        costs: of all frames.
        answer_costs: of true answers.
        pairs: how many the sentences had.
    """

    costs: ByContext
    answer_costs: Costs
    answers: _Answers = field(default_factory=_Answers)
    pairs: set[int] = field(default_factory=set)


class Tally:
    """All figures of a run; filled sentence by sentence, of which none is kept."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}
        self.sentences = self.shortened = 0
        self._perplexity = _Mean()  # of the sentences

    def add(self, one: Measured) -> Record:
        """One sentence more; returns what its line says."""
        from visiontk.metrics.sentences import ByContext, Costs

        task = self._tasks.setdefault(one.task, _Task(ByContext(), Costs()))
        task.costs.add(one.costs)
        self.sentences += 1
        self.shortened += one.left_out > 0
        alone = ByContext()
        alone.add(one.costs)
        whole = alone.whole()
        if whole.tokens:
            self._perplexity.add(whole.perplexity)
        line: Record = {"task": one.task, **_figures(whole)}
        if one.answer is not None:
            task.pairs.add(one.pairs)
            costs, answers = Costs(), _Answers()
            costs.add(one.costs[-1])
            task.answer_costs.join(costs)
            for some in (task.answers, answers):
                some.add(one.answer)
            line |= {**_perplexity(costs, "answer_perplexity"), **answers.figures()}
        return line

    def contexts(self) -> Iterator[Record]:
        """One line for each task and number of frames before."""
        from visiontk.metrics.sentences import PERPLEXITY

        for name, task in self._tasks.items():
            for context, costs in task.costs:
                kind = "frame" if name == PLAIN else ("image", "answer")[context % 2]
                yield {"protocol": PERPLEXITY, "task": name, "kind": kind, "context": context, **_figures(costs)}

    def answers(self, features: str | None) -> Iterator[Record]:
        """One line for each task of pairs whose true answers are known. ``features`` is who saw the distances, if there are any."""
        from visiontk.metrics.sentences import PAIRS

        for name, task in self._tasks.items():
            if not task.answers.count:
                continue
            line: Record = {"protocol": PAIRS, "task": name, "answers": task.answers.count}
            line |= {"pairs": [min(task.pairs), max(task.pairs)], **_perplexity(task.answer_costs)}
            line |= task.answers.figures()
            line |= {"things": task.answers.iou.count} if "mIoU" in line else {}
            if "distance" in line:
                line["distance"] = {"name": "LPIPS-like", "value": line["distance"], "features": features}
            yield line

    def totals(self) -> Record:
        """Over all frames of all sentences."""
        from visiontk.metrics.sentences import PERPLEXITY, Costs

        whole = Costs()
        for task in self._tasks.values():
            whole.join(task.costs.whole())
        mean = self._perplexity.value
        by_sentence = {"mean_perplexity": mean} if math.isfinite(mean) else {}
        return {"protocol": PERPLEXITY, "sentences": self.sentences, **_figures(whole), **by_sentence}


def _figures(costs: Costs) -> Record:
    """What is known of costs; of a single token that is given nothing there is no perplexity."""
    about: Record = {"frames": costs.frames, "tokens": costs.tokens}
    return about | ({"nll": six_digits(costs.mean), **_perplexity(costs)} if costs.tokens else {})


def _perplexity(costs: Costs, name: str = "perplexity") -> Record:
    """Nothing where it is infinite, as no JSON holds that; ``nll`` tells of it."""
    return {name: six_digits(costs.perplexity)} if math.isfinite(costs.perplexity) else {}
