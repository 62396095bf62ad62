"""How items meet a model: decoded ahead on threads, gathered into batches, answered in order; and videos, read ahead on one thread.

Every result travels with its own item from the first step to the last, so no answer can end up under another item's name.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .errors import DeviceError, ItemError, OutOfMemory
from .records import Item

T = TypeVar("T")  # what an item loads: an image
P = TypeVar("P")  # what the model takes: a preprocessed array
R = TypeVar("R")  # what the model gives

# A batch that is waiting for input longer than this runs part-filled, so that a slow pipe gets its answers at once.
PATIENCE_S = 0.2
# How long the end of a run waits for its threads: at once where they are idle, and in vain where one reads a pipe that nobody writes to.
GRACE_S = 1.0


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """One item with its result or its error; neither, where the line passes through."""

    item: Item[Any]
    result: R | None = None
    error: ItemError | None = None
    seconds: float = 0.0


@dataclass
class Stats:
    """What a run came to; filled while it goes."""

    items: int = 0
    failed: int = 0
    passed_through: int = 0
    batch_size: int = 0
    halved: bool = False
    started: float = field(default_factory=time.perf_counter)

    def count(self, outcome: Outcome[Any]) -> None:
        self.items += 1
        self.failed += outcome.error is not None
        self.passed_through += outcome.item.load is None


@dataclass
class _Entry(Generic[P]):
    item: Item[Any]
    prepared: Future[P] | None


class _Decoders:
    """Threads that decode. Unlike those of `ThreadPoolExecutor` they are not waited for without end: one of them may be reading a pipe that
    nobody writes to.
    """

    def __init__(self, count: int) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._run, name=f"decode-{number}", daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def submit(self, work: Callable[[], P]) -> Future[P]:
        future: Future[P] = Future()
        self._work.put((future, work))
        return future

    def close(self) -> None:
        """Drop what has not begun, and let the threads end."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._work.get_nowait()
        for _ in self.threads:
            self._work.put(None)

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            future, work = task
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  it is raised again where the result is read
                future.set_exception(error)


class _End:
    """Closes the queue; carries what stopped the feeder, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def run(
    items: Iterable[Item[T]],
    prepare: Callable[[T], P],
    predict: Callable[[Sequence[P]], Sequence[R | ItemError]],
    *,
    batch_size: int,
    workers: int,
    stats: Stats | None = None,
) -> Iterator[Outcome[R]]:
    """Send items through a model and yield their outcomes in the items' order.

    ``items`` is drawn on a thread of its own and never further ahead than two batches, so memory stays flat however many there are.
    ``prepare(item.load())`` runs on ``workers`` threads; ``predict`` runs here, one answer for each. An
    `ItemError`, raised by the former or among the answers of the latter, fails its item alone; `OutOfMemory` halves the
    batch for the rest of the run; any other exception ends the run.

    Raises:
        DeviceError: one item alone does not fit into the device's memory.
    """
    stats = stats if stats is not None else Stats()
    stats.batch_size = batch_size
    ahead: queue.Queue[_Entry[P] | _End] = queue.Queue(maxsize=2 * batch_size + workers)
    stop = threading.Event()
    decoders = _Decoders(workers)
    feeder = threading.Thread(target=_feed, args=(items, prepare, ahead, decoders, stop), name="feed", daemon=True)
    feeder.start()
    try:
        for batch in _batches(ahead, stats):
            for outcome in _answer(batch, predict, stats):
                stats.count(outcome)
                yield outcome
    finally:
        stop.set()
        decoders.close()
        _await([feeder, *decoders.threads])


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items, drawn on a thread of its own, up to ``count`` ahead of who reads them. What drawing raises is raised here."""
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=count)
    stop = threading.Event()
    thread = threading.Thread(target=_draw, args=(items, ready, stop), name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        _await([thread])


def _draw(items: Iterable[T], ready: queue.Queue[T | _End], stop: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            if not _put(ready, item, stop):
                return
            del item  # or the last one would be kept for as long as the next takes
    except BaseException as error:  # noqa: BLE001  it is raised again where the items are read
        end = _End(error)
    finally:
        if isinstance(items, Generator):  # whose files are closed here and not when it is collected, on whatever thread that is
            items.close()
    _put(ready, end, stop)


def _await(threads: list[threading.Thread]) -> None:
    """Let the threads end before the interpreter does: one that leaves a C++ library while Python is being torn down aborts the process."""
    deadline = time.monotonic() + GRACE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _feed(
    items: Iterable[Item[T]],
    prepare: Callable[[T], P],
    ahead: queue.Queue[_Entry[P] | _End],
    decoders: _Decoders,
    stop: threading.Event,
) -> None:
    def work(load: Callable[[], T]) -> Callable[[], P]:
        return lambda: prepare(load())

    end = _End()
    try:
        for item in items:
            if stop.is_set():
                return
            future = None if item.load is None else decoders.submit(work(item.load))
            if not _put(ahead, _Entry(item, future), stop):
                return
    except BaseException as error:  # noqa: BLE001  it is raised again where the results are read
        end = _End(error)
    _put(ahead, end, stop)


def _put(ahead: queue.Queue[T | _End], entry: T | _End, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ahead.put(entry, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _batches(ahead: queue.Queue[_Entry[P] | _End], stats: Stats) -> Iterator[list[_Entry[P]]]:
    """Entries in order, whose preparation is done, in lists of up to the batch size."""
    batch: list[_Entry[P]] = []
    while True:
        try:
            entry = ahead.get(timeout=PATIENCE_S if batch else None)
        except queue.Empty:
            yield batch
            batch = []
            continue
        if isinstance(entry, _End):
            if batch:
                yield batch
            if entry.error is not None:
                raise entry.error
            return
        if batch and not _is_done(entry, PATIENCE_S):
            yield batch
            batch = []
        _is_done(entry, None)
        batch.append(entry)
        if len(batch) >= stats.batch_size:
            yield batch
            batch = []


def _is_done(entry: _Entry[Any], timeout: float | None) -> bool:
    if entry.prepared is None:
        return True
    try:
        entry.prepared.exception(timeout)
    except TimeoutError:
        return False
    return True


def _answer(batch: list[_Entry[P]], predict: Callable[[Sequence[P]], Sequence[R | ItemError]], stats: Stats) -> Iterator[Outcome[R]]:
    """The outcomes of one batch. Failed entries keep their place among the others."""
    errors: dict[int, ItemError] = {}
    ready: list[P] = []
    for position, entry in enumerate(batch):
        if entry.prepared is None:
            continue
        error = entry.prepared.exception()
        if isinstance(error, ItemError):
            errors[position] = error
        elif error is not None:
            raise error
        else:
            ready.append(entry.prepared.result())
    answers = iter(_predict_backing_off(ready, predict, stats))
    for position, entry in enumerate(batch):
        if entry.prepared is None:
            yield Outcome(entry.item)
        elif position in errors:
            yield Outcome(entry.item, error=errors[position])
        else:
            result, seconds = next(answers)
            if isinstance(result, ItemError):
                yield Outcome(entry.item, error=result)
            else:
                yield Outcome(entry.item, result=result, seconds=seconds)


def _predict_backing_off(
    ready: list[P], predict: Callable[[Sequence[P]], Sequence[R | ItemError]], stats: Stats
) -> list[tuple[R | ItemError, float]]:
    answers: list[tuple[R | ItemError, float]] = []
    while len(answers) < len(ready):
        chunk = ready[len(answers) : len(answers) + stats.batch_size]
        begun = time.perf_counter()
        try:
            results = predict(chunk)
        except OutOfMemory as error:
            if len(chunk) == 1:
                raise DeviceError(f"one item alone does not fit into memory ({error}); choose a smaller model or --device cpu") from error
            stats.batch_size, stats.halved = (len(chunk) + 1) // 2, True
            continue
        if len(results) != len(chunk):
            raise AssertionError(f"the model gave {len(results)} results for {len(chunk)} items")
        share = (time.perf_counter() - begun) / len(chunk)
        answers += [(result, share) for result in results]
    return answers
