"""Read, work, write: each in threads of its own, with a bounded number of items between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

_TICK = 0.5  # seconds between looks at the clock while nothing is done
_PATIENCE = 60.0  # seconds for threads to come to a place where they can stop


class Outcome(NamedTuple):
    """What became of an item: the result of writing it, or the error of any step."""

    item: Any
    result: Any = None
    error: Exception | None = None


class StopError(Exception):
    """Raised inside a long step when the pipeline is to stop."""


Check = Callable[[], None]  # raises StopError when it is time
Work = Callable[[Any, Any], Any]


def process(
    items: Sequence[Any],
    read: Callable[[Any], Any],
    openers: Sequence[Callable[[Check], Work]],
    write: Work,
) -> Iterator[Outcome | None]:
    """Each item through ``read(item)``, ``work(item, read)`` and ``write(item, worked)``.

    One thread for each opener calls it once and works with what it returns, on whatever item is
    ready. At most six items with one opener, and three for each further one, are in memory.

    Yields:
        Outcomes as they come, and None at times without any. Close the iterator to stop early.

    Raises:
        Exception: of an opener, or an OSError of ``write``, after which nothing could go on.
    """
    pipeline = _Pipeline(items, len(openers) + 1)
    pipeline.start([lambda: pipeline.reading(read)] * pipeline.lines)
    pipeline.start([lambda: pipeline.writing(write)] * pipeline.lines)
    for opener in openers:
        pipeline.start([lambda opener=opener: pipeline.working(opener)])  # type: ignore[misc]
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
        pipeline.stop()


class _Pipeline:
    def __init__(self, items: Sequence[Any], lines: int):
        self.lines = lines
        self.outcomes: SimpleQueue = SimpleQueue()  # Outcome, or an exception that ends it all
        self._items, self._lock = iter(items), threading.Lock()
        self._loaded: SimpleQueue = SimpleQueue()
        self._worked: SimpleQueue = SimpleQueue()
        self._slots = threading.Semaphore(3 * lines)  # of items that were read, not yet written
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, bodies: Sequence[Callable[[], None]]) -> None:
        for body in bodies:
            # Daemons: a second Ctrl-C need not wait for them.
            thread = threading.Thread(target=self._guard, args=(body,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for _ in self._threads:
            self._slots.release()
            self._loaded.put(None)
            self._worked.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE)

    def check(self) -> None:
        if self._stopping.is_set():
            raise StopError

    def reading(self, read: Callable[[Any], Any]) -> None:
        while True:
            self._slots.acquire()
            self.check()
            with self._lock:
                item = next(self._items, self)
            if item is self:
                return
            try:
                self._loaded.put((item, read(item)))
            except Exception as error:
                self._fail(item, error)

    def working(self, opener: Callable[[Check], Work]) -> None:
        work = opener(self.check)
        while pair := self._next(self._loaded):
            try:
                self._worked.put((pair[0], work(*pair)))
            except StopError:
                raise
            except Exception as error:
                self._fail(pair[0], error)
            del pair  # or an image stays in memory while the next one is waited for

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

    def _next(self, queue: SimpleQueue) -> Any:
        pair = queue.get()
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
