"""Items through a model: order, failures, batches, memory that runs out."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from visiontk.errors import DeviceError, ItemError, OutOfMemory
from visiontk.records import Item
from visiontk.stream import Outcome, Stats, ahead, run


def item(number: int, load: Callable[[], int] | None = None) -> Item[int]:
    return Item({"path": str(number)}, load or (lambda: number))


def broken() -> int:
    raise ItemError("broken", "damaged")


def same(number: int) -> int:
    return number


def squares(batch: Sequence[int]) -> list[int]:
    return [number * number for number in batch]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (8, 4), (100, 8)])
def test_every_answer_stands_with_its_own_item(batch_size: int, workers: int) -> None:
    rng = random.Random(0)

    def slowly(number: int) -> Callable[[], int]:
        def load() -> int:
            time.sleep(rng.random() * 0.003)
            return broken() if number % 7 == 3 else number

        return load

    outcomes = list(run([item(n, slowly(n)) for n in range(60)], same, squares, batch_size=batch_size, workers=workers))
    assert [outcome.item.record["path"] for outcome in outcomes] == [str(n) for n in range(60)]
    for number, outcome in enumerate(outcomes):
        if number % 7 == 3:
            assert (outcome.result, outcome.error and outcome.error.kind) == (None, "broken")
        else:
            assert (outcome.result, outcome.error) == (number * number, None)


def test_an_error_among_the_answers_fails_its_item_alone() -> None:
    def predict(batch: Sequence[int]) -> list[int | ItemError]:
        return [ItemError("not_finite", "NaN") if number == 1 else number for number in batch]

    outcomes: list[Outcome[int]] = list(run(map(item, range(3)), same, predict, batch_size=3, workers=1))
    assert [outcome.result for outcome in outcomes] == [0, None, 2]
    assert outcomes[1].error is not None and outcomes[1].error.kind == "not_finite"


def test_lines_without_a_path_pass_through_in_their_place() -> None:
    items = [item(0), Item[int]({"note": "kept"}, None), item(2)]
    stats = Stats()
    outcomes = list(run(items, same, squares, batch_size=2, workers=1, stats=stats))
    assert [outcome.result for outcome in outcomes] == [0, None, 4]
    assert outcomes[1].item.record == {"note": "kept"} and outcomes[1].error is None
    assert (stats.items, stats.failed, stats.passed_through) == (3, 0, 1)


def test_batches_fill_when_items_are_there() -> None:
    sizes: list[int] = []

    def predict(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        return list(batch)

    list(run(map(item, range(20)), same, predict, batch_size=8, workers=2))
    assert sizes == [8, 8, 4]


def test_the_next_batch_is_prepared_while_the_model_runs() -> None:
    prepared = [threading.Event() for _ in range(8)]

    def prepare(number: int) -> int:
        prepared[number].set()
        return number

    def predict(batch: Sequence[int]) -> list[int]:
        following = min(batch[-1] + 1, 7)
        assert prepared[following].wait(20), "nothing is prepared while the model runs"
        return list(batch)

    outcomes = list(run(map(item, range(8)), prepare, predict, batch_size=2, workers=1))
    assert [outcome.result for outcome in outcomes] == list(range(8))


def test_a_slow_pipe_gets_its_answers_before_the_batch_is_full() -> None:
    go_on = threading.Event()

    def trickle() -> Iterator[Item[int]]:
        yield item(1)
        go_on.wait(20)
        yield item(2)

    outcomes = run(trickle(), same, squares, batch_size=8, workers=1)
    assert next(outcomes).result == 1  # would block for 20 s if it waited for a full batch
    go_on.set()
    assert [outcome.result for outcome in outcomes] == [4]


def test_memory_that_runs_out_halves_the_batch_for_good() -> None:
    tried: list[int] = []

    def predict(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 3:
            raise OutOfMemory("full")
        return squares(batch)

    stats = Stats()
    outcomes = list(run(map(item, range(20)), same, predict, batch_size=10, workers=2, stats=stats))
    assert [outcome.result for outcome in outcomes] == [n * n for n in range(20)]
    assert (stats.halved, stats.batch_size) == (True, 3)
    assert tried[:3] == [10, 5, 3] and max(tried[3:]) == 3


def test_one_item_too_large_for_the_device_ends_the_run() -> None:
    def predict(batch: Sequence[int]) -> list[int]:
        raise OutOfMemory("full")

    with pytest.raises(DeviceError, match="one item alone does not fit"):
        list(run(map(item, range(4)), same, predict, batch_size=4, workers=1))


def test_items_are_drawn_only_a_little_ahead() -> None:
    drawn = 0

    def endless() -> Iterator[Item[int]]:
        nonlocal drawn
        for number in itertools.count():
            drawn = number + 1
            yield item(number)

    outcomes = run(endless(), same, squares, batch_size=4, workers=2)
    next(outcomes)
    time.sleep(0.3)
    assert drawn <= 4 + (2 * 4 + 2) + 2  # the first batch, the queue, one in hand on either side
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    stopped_at = drawn
    time.sleep(0.2)
    assert drawn == stopped_at


def test_what_goes_wrong_while_listing_inputs_is_raised_after_the_answers_before_it() -> None:
    def failing() -> Iterator[Item[int]]:
        yield item(3)
        raise OSError("the disk is gone")

    outcomes = run(failing(), same, squares, batch_size=4, workers=1)
    assert next(outcomes).result == 9
    with pytest.raises(OSError, match="the disk is gone"):
        next(outcomes)


# Reading ahead


def test_reading_ahead_keeps_the_order_and_goes_no_further_than_it_may() -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    reader = ahead(numbers(), 4)
    got = [next(reader) for _ in range(10)]
    time.sleep(0.05)
    assert got == list(range(10))
    assert len(drawn) <= 10 + 4 + 1, "four wait, and one wants to join them"
    assert [*got, *reader] == list(range(100))


def test_what_reading_ahead_meets_comes_after_what_it_read() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise ItemError("broken", "damaged")

    reader = ahead(numbers(), 16)
    assert [next(reader) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ItemError, match="damaged"):
        next(reader)


def test_reading_ahead_that_is_left_closes_what_it_read_from() -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    reader = ahead(numbers(), 2)
    assert next(reader) == 0
    reader.close()  # type: ignore[attr-defined]
    assert closed.wait(2)
    assert not any(thread.name == "ahead" for thread in threading.enumerate())
