"""Read, work and write in threads of their own, with a bounded number of items between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

_TICK = 0.5  # seconds between looks at the clock while nothing is done
_PATIENCE = 60.0  # seconds for threads to come to a place where they can stop
_GATHERING = 0.1  # seconds that a batch waits for one more item


class Outcome(NamedTuple):
    """Hold an item with the result of writing it, or with the error of any step."""

    item: Any
    result: Any = None
    error: Exception | None = None


class StopError(Exception):
    """Stops a long step from inside when the pipeline is to stop."""


Check = Callable[[], None]  # raises StopError when it is time
Work = Callable[[Any, Any], Any]


class Batched(NamedTuple):
    """Hold the two steps of a worker that begins several items at once.

    ``begin`` takes up to ``size`` pairs of item and read, in one thread, and returns what ``work``
    takes in place of read, or an exception, for each; ``work`` runs in ``threads`` of its own, so
    that one item's work on the host and another's on the device go on at the same time.
    """

    size: int
    begin: Callable[[list[tuple[Any, Any]]], list[Any]]
    threads: int
    work: Work


def process(
    items: Sequence[Any],
    read: Callable[[Any], Any],
    openers: Sequence[Callable[[Check], Work | Batched]],
    write: Work,
    stopping: Callable[[], None] = lambda: None,
) -> Iterator[Outcome | None]:
    """Put each item through ``read(item)``, ``work(item, read)`` and ``write(item, worked)``.

    One thread for each opener calls it once and works with what it returns, on whatever item is
    ready. At most six items with one opener, and three for each further one, are in memory; of
    one that works in batches three batches more.
    ``stopping`` is called when the threads are to stop, to wake those that wait in ``read``.

    Yields:
        Outcomes as they come, and None at times without any. Close the iterator to stop early.

    Raises:
        Exception: of an opener, or an OSError of ``write``, after which nothing could go on.
    """
    pipeline = _Pipeline(items, len(openers) + 1)
    pipeline.start([lambda: pipeline.reading(read)] * pipeline.lines)
    pipeline.start([lambda: pipeline.writing(write)] * pipeline.lines)
    for opener in openers:
        pipeline.start([lambda opener=opener: pipeline.working(opener, read)])  # type: ignore[misc]
    try:
        left = len(items)
        while left:
            try:
                outcome = pipeline.outcomes.get(timeout=_TICK)
            except Empty:
                yield None
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            left -= 1
            yield outcome
    finally:
        stopping()
        pipeline.stop()


class _Pipeline:
    def __init__(self, items: Sequence[Any], lines: int):
        self.lines = lines
        self.outcomes: SimpleQueue[Any] = SimpleQueue()  # Outcome, or an exception that ends it all
        self._items, self._lock = iter(items), threading.Lock()
        self._loaded: SimpleQueue[Any] = SimpleQueue()
        self._worked: SimpleQueue[Any] = SimpleQueue()
        self._queues = [self._loaded, self._worked]
        self._slots = threading.Semaphore(3 * lines)  # of items that were read, not yet written
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, bodies: Sequence[Callable[[], None]]) -> None:
        for body in bodies:
            # Daemons: a second Ctrl-C need not wait for them.
            # In a copy of the context: it knows which files are inputs (samjax.files.protecting).
            run = copy_context().run
            thread = threading.Thread(target=run, args=(self._guard, body), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._slots.release(len(self._threads))
        for queue in list(self._queues):
            queue.put(None)
        for thread in list(self._threads):
            thread.join(_PATIENCE)

    def check(self) -> None:
        if self._stopping.is_set():
            raise StopError

    def reading(self, read: Callable[[Any], Any]) -> None:
        while True:
            self._slots.acquire()
            if self._stopping.is_set():
                self._slots.release()  # for the next thread that waits
            self.check()
            with self._lock:
                item = next(self._items, self)
            if item is self:
                return
            try:
                self._loaded.put((item, read(item)))
            except Exception as error:
                self._fail(item, error)

    def working(
        self, opener: Callable[[Check], Work | Batched], read: Callable[[Any], Any]
    ) -> None:
        work = opener(self.check)
        if not isinstance(work, Batched):
            self._put_through(self._loaded, work)
            return
        begun: SimpleQueue[Any] = SimpleQueue()
        self._queues.append(begun)
        self.check()
        self._slots.release(3 * work.size)
        self.start([lambda: self.reading(read)] * (work.size // 2))
        self.start([lambda: self._put_through(begun, work.work)] * work.threads)
        while True:
            batch = self._gather(work.size)
            for (item, _), value in zip(batch, work.begin(batch), strict=True):
                if isinstance(value, Exception):
                    self._fail(item, value)
                else:
                    begun.put((item, value))
            del batch, value

    def _put_through(self, source: SimpleQueue[Any], work: Work) -> None:
        while pair := self._next(source):
            try:
                self._worked.put((pair[0], work(*pair)))
            except StopError:
                raise
            except Exception as error:
                self._fail(pair[0], error)
            del pair  # or an image stays in memory while the next one is waited for

    def _gather(self, size: int) -> list[tuple[Any, Any]]:
        batch = [self._next(self._loaded)]
        while len(batch) < size:
            try:
                batch.append(self._next(self._loaded, _GATHERING))
            except Empty:
                break
        return batch

    def writing(self, write: Work) -> None:
        while pair := self._next(self._worked):
            try:
                self.outcomes.put(Outcome(pair[0], write(*pair)))
                self._slots.release()
            except OSError:
                raise
            except Exception as error:
                self._fail(pair[0], error)
            del pair

    def _next(self, queue: SimpleQueue[Any], timeout: float | None = None) -> Any:
        pair = queue.get(timeout=timeout)
        if self._stopping.is_set():
            queue.put(None)  # for the next thread that waits
        self.check()
        return pair

    def _fail(self, item: Any, error: Exception) -> None:
        # Without its frames, which hold the image.
        self.outcomes.put(Outcome(item, error=error.with_traceback(None)))
        self._slots.release()

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except StopError:
            pass
        except BaseException as error:
            self.outcomes.put(error)
