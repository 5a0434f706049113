"""The histories of all images, their masks and their files; no widget, no threads."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from samjax.embedding import ImageEmbedding
from samjax.engine.segmenter import Segmenter
from samjax.errors import AnnotationError
from samjax.file_lock import taking_turns
from samjax.files import made_folder, writing
from samjax.widget.history import History
from samjax.widget.mask_cache import MaskCache
from samjax.widget.merging import merge
from samjax.widget.opened import OpenedAnnotations
from samjax.widget.sizes import Size
from samjax.widget.state import Object, State
from samjax.widget.state_file import FinishedMask, Saved, read_state, set_aside, write_state
from samjax.words import counted

_UNCHECKED = (
    "has no checksum, as files of an early samjax: damage could not be noticed, look at its "
    "masks; the next save adds one"
)


class Project:
    """Keeps what was done to each image in memory and, with ``folder``, in a file for each.

    Not thread-safe: its owner locks.

    Args:
        model: whose masks they are.
        names: of the images, all different.
        folder: of the files, NAME.json; None keeps everything in memory.
        start: what the first object of the first image starts with.
        opened: annotations whose objects the images begin with.

    Raises:
        AnnotationError: a folder that cannot be made or written to.
    """

    def __init__(
        self,
        model: Segmenter,
        names: Sequence[str],
        folder: str | os.PathLike[str] | None,
        start: State,
        opened: OpenedAnnotations | None = None,
    ):
        self.annotations = opened
        self.masks = MaskCache(model)
        self.warning: str | None = None  # of the last file that could not be used
        self._model, self._names, self._start = model, names, start
        self._histories: dict[int, History] = {}
        self._begun: dict[int, State] = {}  # what images without a file begin with
        self._sizes: dict[int, Size] = {}
        self._hashes: dict[int, str] = {}  # of the pixels that restored masks belong to
        self._saved: dict[int, State] = {}
        self._digests: dict[int, bytes] = {}  # of the files as they were read or written here
        self._renumbered: Counter[int] = Counter()  # how often an image's objects were
        self._checked: set[int] = set()  # images whose pixels were compared with their state's
        self.folder = None if folder is None else made_folder(folder, AnnotationError)

    def file(self, index: int) -> Path | None:
        """Return where the state of an image is saved."""
        return None if self.folder is None else self.folder / f"{self._names[index]}.json"

    def history(self, index: int) -> History:
        """Return the history of an image; the first time it is read from its file."""
        if index not in self._histories:
            restored = self._restored(index)
            self._histories[index] = restored or History(self._begin(index))
            if restored is not None:
                self._add_opened(index, restored)
        return self._histories[index]

    def _begin(self, index: int) -> State:
        """Return the state of an image to which nothing was done: the objects of annotations."""
        if index not in self._begun:
            self._begun[index] = self._with_opened(index, self._start)
        return self._begun[index]

    def _with_opened(self, index: int, state: State) -> State:
        if self.annotations is None or not self.annotations.has(index):
            return state
        state, masks = self.annotations.added(index, state)
        for each in state.objects:
            if each.id in masks:
                self.masks.restore(index, each.recipe, masks[each.id], foreign=False)
        if (size := self.annotations.size(index)) is not None:
            self._sizes.setdefault(index, size)
        if damaged := self.annotations.damaged(index):
            self.warning = (
                f"{self._names[index]}: {counted(damaged, 'damaged mask')} of "
                f"{self.annotations.set.title}: the network makes masks of the boxes instead"
            )
        if unusable := len(self.annotations.unusable(index)):
            before = f"{self.warning}; " if damaged else f"{self._names[index]}: "
            self.warning = (
                f"{before}{counted(unusable, 'annotation')} with neither mask nor "
                "box; COCO exports keep them"
            )
        return state

    def _add_opened(self, index: int, restored: History) -> None:
        """Add the objects of annotations to a saved state that never had them."""
        if self.annotations is None or not self.annotations.has(index):
            return
        saved = restored.present
        if not saved.source:
            added = restored.do(self._with_opened(index, saved), "open")
            self._histories[index] = added
        elif saved.source != self.annotations.digest(index):
            self.warning = (
                f"{self._names[index]}: {self.annotations.set.title} says something else than when "
                "its objects were saved; they stay (another path= begins anew)"
            )

    def as_opened(self, index: int) -> bool:
        """Return whether an image has just the objects that annotations gave it."""
        known = self.annotations is not None and self.annotations.has(index)
        return known and self.history(index).present.objects == self._begin(index).objects

    def revision(self, index: int) -> str:
        """Return what a page's message must have seen for its numbers of objects to hold."""
        return f"{index}.{self._renumbered[index]}"

    def opened_state(self, index: int) -> State | None:
        """Return the state of an image, if its history is in memory."""
        history = self._histories.get(index)
        return None if history is None else history.present

    def opened_indices(self) -> set[int]:
        """Return the images whose history is in memory."""
        return set(self._histories)

    def put(self, index: int, changed: History) -> None:
        """Replace the history of an image."""
        self._histories[index] = changed

    def known(self) -> list[int]:
        """List the images that were opened or have a file, in order."""
        opened = set() if self.annotations is None else set(self.annotations.indices())
        opened |= self._histories.keys()
        return [i for i in range(len(self._names)) if i in opened or self._has_file(i)]

    def size(self, index: int) -> Size | None:
        """Return (H, W) of an image, if it was opened or restored."""
        return self._sizes.get(index)

    def is_checked(self, index: int) -> bool:
        """Return whether the image's pixels were compared with those of its state."""
        return index in self._checked

    def has_pixels(self, index: int) -> bool:
        """Return whether the pixels that the state belongs to are known, as saving needs."""
        return index in self._hashes

    def opened(self, index: int, size: Size, image_hash: str) -> None:
        """Note an image that was read; masks that were restored must be of these pixels."""
        self.history(index)
        self._checked.add(index)
        expected = self._hashes.get(index)
        if expected is not None and (expected, self._sizes.get(index)) != (image_hash, size):
            self._put_away(index, "the image has changed since", "other-image")
            self.masks.forget(index)
            self._begun.pop(index, None)
            self._histories[index] = History(self._begin(index))
        present = self._histories[index].present
        if any(each.base is not None and each.base.size != size for each in present.objects):
            self.warning = f"{self._names[index]} is of another size than its annotations: left out"
            self.masks.forget(index)
            self._begun[index] = self._start
            self._histories[index] = History(self._start)
        self._sizes[index], self._hashes[index] = size, image_hash

    def finished(
        self, index: int, image: ImageEmbedding | None
    ) -> list[tuple[Object, FinishedMask]]:
        """Return the objects of an image with their finished masks.

        Args:
            image: its embedding, where `needs_image` is true.
        """
        done = []
        for each in filter(bool, self.history(index).present.objects):
            mask = self.masks.known(index, each.recipe)
            if mask is None:
                if image is None:
                    raise ValueError(f"image {index} has unfinished masks: pass its embedding")
                mask = self.masks.finish(index, image, each.recipe)
            done.append((each, mask))
        return done

    def finished_before(self, index: int) -> list[tuple[Object, FinishedMask]]:
        """Return the objects of an image whose masks are known without the image."""
        found = []
        for each in self.history(index).present.objects:
            mask = self.masks.known(index, each.recipe)
            if mask is not None:
                found.append((each, mask))
        return found

    def needs_image(self, index: int) -> bool:
        """Whether masks of the image are still to be made."""
        objects = filter(bool, self.history(index).present.objects)
        return any(self.masks.known(index, each.recipe) is None for each in objects)

    def save(self, index: int, image: ImageEmbedding | None) -> bool:
        """Write the file of an image if its state changed; committed masks are finished for it.

        Returns whether a file was written.

        Raises:
            AnnotationError: the disk does not take it.
        """
        file, size = self.file(index), self._sizes.get(index)
        unchanged = self._last_saved(index) == self.history(index).present
        if file is None or size is None or unchanged or index not in self._hashes:
            return False
        advice = "free space or check permissions; the masks are still in memory"
        with writing(file, AnnotationError, advice), _alone_in(file.parent):
            if _digest(file) != self._digests.get(index, b""):
                self._merge(index, file)
            state = self.history(index).present
            masks = self._masks_to_save(index, state, image)
            saved = Saved(state, masks, size, self._hashes[index], self._model.fingerprint)
            write_state(file, self._names[index], saved)
            self._saved[index] = state
            self._digests[index] = _digest(file)
        return True

    def _last_saved(self, index: int) -> State:
        return self._saved[index] if index in self._saved else self._begin(index)

    def _masks_to_save(
        self, index: int, state: State, image: ImageEmbedding | None
    ) -> dict[int, FinishedMask]:
        masks: dict[int, FinishedMask] = {}
        for each in filter(bool, state.objects):
            mask = self.masks.known(index, each.recipe)
            if mask is None and each.committed and image is not None:
                mask = self.masks.finish(index, image, each.recipe)
            if mask is not None:
                masks[each.id] = mask
        return masks

    def refresh(self, index: int) -> None:
        """Take over what another annotator on the same folder saved since the file was read."""
        file = self.file(index)
        if file is None or index not in self._histories or not file.exists():
            return
        if _digest(file) != self._digests.get(index, b"") and index in self._hashes:
            self._merge(index, file)

    def _merge(self, index: int, file: Path) -> None:
        if not file.exists():
            return  # somebody removed it: it is written again
        try:
            theirs = read_state(file)
        except AnnotationError as error:
            self._put_away(index, str(error).removeprefix(f"{file}: "), "damaged")
            return
        if theirs.image_hash != self._hashes[index]:
            self._put_away(index, "it was saved for other pixels", "other-image")
            return
        merged = merge(self._last_saved(index), self.history(index), theirs.state)
        self._keep_masks(index, theirs)
        self._histories[index] = merged.history
        self._saved[index], self._digests[index] = theirs.state, _digest(file)
        self._renumbered[index] += merged.renumbered
        if not merged.taken and not merged.left:
            return
        self.warning = (
            f"{file.name} was changed by another annotator: "
            f"{counted(merged.taken, 'change')} of it taken over"
        )
        if theirs.unchecked:
            self.warning = f"{self.warning}; it {_UNCHECKED}"
        if merged.left:
            aside = set_aside(file, "other")
            self.warning = f"{self.warning}; its other version is kept as {aside.name}"

    def _has_file(self, index: int) -> bool:
        file = self.file(index)
        return file is not None and file.exists()

    def _restored(self, index: int) -> History | None:
        file = self.file(index)
        if file is None or not file.exists():
            return None
        digest = _digest(file)
        try:
            saved = read_state(file)
        except AnnotationError as error:
            self._put_away(index, str(error).removeprefix(f"{file}: "), "damaged")
            return None
        self._keep_masks(index, saved)
        self._sizes[index], self._hashes[index] = saved.size, saved.image_hash
        self._saved[index], self._digests[index] = saved.state, digest
        if saved.unchecked:
            self.warning = f"{file.name} {_UNCHECKED}"
        return History(saved.state)

    def _keep_masks(self, index: int, saved: Saved) -> None:
        foreign = saved.fingerprint != self._model.fingerprint
        for each in saved.state.objects:
            if each.id in saved.masks:
                self.masks.restore(index, each.recipe, saved.masks[each.id], foreign=foreign)

    def _put_away(self, index: int, reason: str, ending: str) -> None:
        file = self.file(index)
        if file is None or not file.exists():
            return
        aside = set_aside(file, ending)
        self._saved.pop(index, None)
        self._digests.pop(index, None)
        self._renumbered[index] += 1
        self.warning = f"{file.name} was not used, {reason}; it is kept as {aside.name}"

    def carry(self, index: int, start: State) -> None:
        """Let objects begun in that image start as in ``start``: class, threshold, candidates."""
        kept = self.history(index)
        self._histories[index] = kept.look(
            replace(
                kept.present,
                label=start.label,
                multimask=start.multimask,
                threshold=start.threshold,
            )
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one annotator at a time save in the folder, which is made again if it was removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with taking_turns(folder):
        yield


def _digest(file: Path) -> bytes:
    """Hash a file's bytes; empty for one that is not there."""
    try:
        if not file.is_file():  # a pipe would be waited for
            return b""
        return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    except OSError:
        return b""
