"""Show the progress of many images: a bar on a terminal, else a line a minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_REPORT_SECONDS = 60.0  # between lines where there is no terminal


class Progress:
    """Progress counts images of all workers, and estimates the rest from those made now.

    Args:
        total: number of all images.
        skipped: of these, images that were there before.
        shown: False shows nothing.
    """

    def __init__(self, total: int, skipped: int = 0, *, shown: bool = True):
        self._total, self._skipped = total, skipped
        self._by_shard: dict[int, int] = {}
        self._done, self._failed, self._masks = skipped, 0, 0
        self._start = self._last = time.monotonic()
        self._lines = shown and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=skipped,
            unit="image",
            leave=False,
            smoothing=0.1,
            disable=not shown or self._lines,
        )

    def __enter__(self) -> Progress:
        """Return the progress itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bar."""
        self._bar.close()

    def add(self, images: int, masks: int = 0, failed: int = 0) -> None:
        """Count images that are done, and show them."""
        self._done += images
        self._masks += masks
        self._failed += failed
        self._bar.set_postfix(masks=self._masks, failed=self._failed, refresh=False)
        self._bar.update(images)
        self._tell()

    def told(self, shard: int, done: int) -> None:
        """Take the number of a shard's images that are done."""
        before, self._by_shard[shard] = self._by_shard.get(shard, 0), done
        self.add(done - before)

    def finish(self, shard: int, images: int, masks: int, failed: int, skipped: int) -> None:
        """Take the report of a shard that is done."""
        self._skipped += skipped
        self.add(0, masks, failed)
        self.told(shard, images)

    def show(self) -> None:
        """Show the time that passes, also while nothing is done."""
        self._bar.refresh()
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if not self._lines or now - self._last < _REPORT_SECONDS or self._done <= self._skipped:
            return
        self._last, rate = now, (self._done - self._skipped) / (now - self._start)
        left = tqdm.format_interval((self._total - self._done) / rate)
        print(
            f"{self._done} of {self._total} images, {rate:.2g} images/s, {left} left, "
            f"{self._failed} failed",
            file=sys.stderr,
            flush=True,
        )
