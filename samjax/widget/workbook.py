"""The sessions of all images, their masks and their files; no widget, no threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from samjax.embeddings import ImageEmbedding
from samjax.engine import Segmenter
from samjax.errors import AnnotationError
from samjax.files import made_folder
from samjax.widget.decode import Size
from samjax.widget.results import Results
from samjax.widget.session import Object, Session, State
from samjax.widget.store import Result, Saved, read_state, set_aside, write_state


class Workbook:
    """What was done to each image, in memory and, with ``folder``, in a file for each image.

    Not thread-safe: its owner locks.

    Args:
        model: whose masks they are.
        names: of the images, all different.
        folder: of the files, NAME.json; None keeps everything in memory.
        start: what the first object of the first image starts with.

    Raises:
        AnnotationError: a folder that cannot be made or written to.
    """

    def __init__(
        self,
        model: Segmenter,
        names: Sequence[str],
        folder: str | os.PathLike[str] | None,
        start: State,
    ):
        self.results = Results(model)
        self.warning: str | None = None  # of the last file that could not be used
        self._model, self._names, self._start = model, names, start
        self._sessions: dict[int, Session] = {}
        self._sizes: dict[int, Size] = {}
        self._hashes: dict[int, str] = {}  # of the pixels that restored masks belong to
        self._saved: dict[int, State] = {}
        self.folder = None if folder is None else made_folder(folder, AnnotationError)

    def file(self, index: int) -> Path | None:
        """Where the state of an image is saved."""
        return None if self.folder is None else self.folder / f"{self._names[index]}.json"

    def session(self, index: int) -> Session:
        """The session of an image; the first time it is read from its file."""
        if index not in self._sessions:
            self._sessions[index] = self._restored(index) or Session(self._start)
        return self._sessions[index]

    def put(self, index: int, changed: Session) -> None:
        """Replace the session of an image."""
        self._sessions[index] = changed

    def known(self) -> list[int]:
        """Images that were opened or have a file, in order."""
        return [i for i in range(len(self._names)) if i in self._sessions or self._has_file(i)]

    def size(self, index: int) -> Size | None:
        """(H, W) of an image, if it was opened or restored."""
        return self._sizes.get(index)

    def opened(self, index: int, image: ImageEmbedding) -> None:
        """The image is encoded: what was restored must belong to these very pixels."""
        self.session(index)
        expected = self._hashes.get(index)
        if expected is not None and expected != image.image_hash:
            self._put_away(index, "the image has changed since", "other-image")
            self.results.forget(index)
            self._sessions[index] = Session(self._start)
        self._sizes[index], self._hashes[index] = image.original_size, image.image_hash

    def finished(self, index: int, image: ImageEmbedding | None) -> list[tuple[Object, Result]]:
        """The objects of an image with their finished masks.

        Args:
            image: its embedding, where `needs_image` is true.
        """
        done = []
        for each in filter(bool, self.session(index).present.objects):
            result = self.results.known(index, each.recipe)
            if result is None:
                if image is None:
                    raise ValueError(f"image {index} has unfinished masks: pass its embedding")
                result = self.results.finish(index, image, each.recipe)
            done.append((each, result))
        return done

    def needs_image(self, index: int) -> bool:
        """Whether masks of the image are still to be made."""
        objects = filter(bool, self.session(index).present.objects)
        return any(self.results.known(index, each.recipe) is None for each in objects)

    def save(self, index: int, image: ImageEmbedding | None) -> bool:
        """Write the file of an image if its state changed; committed masks are finished for it.

        Returns whether a file was written.

        Raises:
            AnnotationError: the disk does not take it.
        """
        file, state = self.file(index), self.session(index).present
        size = self._sizes.get(index)
        unchanged = self._saved.get(index, self._start) == state
        if file is None or size is None or unchanged or index not in self._hashes:
            return False
        results: dict[int, Result] = {}
        for each in filter(bool, state.objects):
            result = self.results.known(index, each.recipe)
            if result is None and each.committed and image is not None:
                result = self.results.finish(index, image, each.recipe)
            if result is not None:
                results[each.id] = result
        saved = Saved(state, results, size, self._hashes[index], self._model.fingerprint)
        try:
            write_state(file, self._names[index], saved)
        except OSError as error:
            raise AnnotationError(
                f"{file}: cannot be written ({error.strerror or error}): "
                "free space or check permissions; the masks are still in memory"
            ) from error
        self._saved[index] = state
        return True

    def _has_file(self, index: int) -> bool:
        file = self.file(index)
        return file is not None and file.exists()

    def _restored(self, index: int) -> Session | None:
        file = self.file(index)
        if file is None or not file.exists():
            return None
        try:
            saved = read_state(file)
        except AnnotationError as error:
            self._put_away(index, str(error).removeprefix(f"{file}: "), "damaged")
            return None
        foreign = saved.fingerprint != self._model.fingerprint
        for each in saved.state.objects:
            if each.id in saved.results:
                self.results.restore(index, each.recipe, saved.results[each.id], foreign=foreign)
        self._sizes[index], self._hashes[index] = saved.size, saved.image_hash
        self._saved[index] = saved.state
        return Session(saved.state)

    def _put_away(self, index: int, reason: str, ending: str) -> None:
        file = self.file(index)
        if file is None or not file.exists():
            return
        aside = set_aside(file, ending)
        self._saved.pop(index, None)
        self.warning = f"{file.name} was not used, {reason}; it is kept as {aside.name}"

    def carry(self, index: int, start: State) -> None:
        """Objects begun in that image start as in the one before: class, threshold, candidates."""
        kept = self.session(index)
        self._sessions[index] = kept.look(
            replace(
                kept.present,
                label=start.label,
                multimask=start.multimask,
                threshold=start.threshold,
            )
        )
