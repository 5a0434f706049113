"""The classes of an annotator, in the order that their ids follow, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from samjax.errors import AnnotationError
from samjax.file_lock import taking_turns
from samjax.files import check_regular, made_folder, replacing, writing
from samjax.widget.messages import check_names
from samjax.widget.state_file import set_aside

FILE = ".classes"  # no image's state, which ends with .json, has this name
_FORMAT = 1


class ClassList:
    """Keeps the names of the classes and what became of those that were renamed.

    A class that was renamed is not begun again by the same labels; where objects still have its
    name, as after an undo, it takes its place again.

    Args:
        names: that an annotator begins with; those that the file does not have follow its own.
        file: that keeps them; None keeps them in memory.

    Attributes:
        names: of the classes, in order.
        warning: why the file could not be used, if it could not.
    """

    def __init__(self, names: Sequence[str], file: Path | None = None):
        self.names: list[str] = []
        self.file, self.warning = file, None if file is None else _put_away(file)
        self._became: dict[str, str] = {}  # the name that a class got
        self._places: dict[str, int] = {}  # of classes that became part of another
        self._saved: tuple[list[str], dict[str, str]] | None = None
        if file is not None and file.exists():
            self.names, self._became = _read(file)
            self._saved = [*self.names], {**self._became}
        self.names += [n for n in names if n not in self.names and n not in self._became]
        self.names = self.names or ["object"]

    def add(self, name: str) -> None:
        """Add a class, if it is new."""
        if name not in self.names:
            self._became.pop(name, None)
            self.names.append(name)

    def find(self, names: Iterable[str]) -> None:
        """Add classes that occur in saved states, but those that were renamed since."""
        for name in dict.fromkeys(names):
            if name not in self._became:
                self.add(name)

    def rename(self, old: str, new: str) -> bool:
        """Give a class another name; return whether it became part of one that exists."""
        place, merges = self.names.index(old), new in self.names
        if merges:
            self.names.remove(old)
            self._places[old] = place
        else:
            self.names[place] = new
        self._became.pop(new, None)
        self._became[old] = new
        return merges

    def restore(self, used: Iterable[str], is_used: Callable[[str], bool]) -> None:
        """Take back classes that objects have again, each at its place.

        Args:
            used: classes of objects.
            is_used: tells whether any object has a class.
        """
        for name in dict.fromkeys(used):
            if name in self.names:
                continue
            became = self._became.pop(name, None)
            if name in self._places:
                self.names.insert(min(self._places.pop(name), len(self.names)), name)
            elif became in self.names and not is_used(became):
                self.names[self.names.index(became)] = name
                self._became[became] = name
            else:
                self.names.append(name)

    def save(self) -> None:
        """Write the file if something changed; classes that it got meanwhile are taken over.

        Raises:
            AnnotationError: the disk does not take it.
        """
        file, current = self.file, (self.names, self._became)
        if file is None or self._saved == current:
            return
        advice = "free space or check permissions; the classes are still in memory"
        with writing(file, AnnotationError, advice):
            made_folder(file.parent, AnnotationError)
            with taking_turns(file.parent):
                self.warning = _put_away(file)
                theirs = _read(file)[0] if file.exists() else []
                before = [] if self._saved is None else self._saved[0]
                for name in theirs:
                    if name not in before and name not in self._became:
                        self.add(name)
                content = {"format": _FORMAT, "classes": self.names, "renamed": self._became}
                with replacing(file) as temporary:
                    text = json.dumps(content, ensure_ascii=False, indent=1)
                    temporary.write_text(text + "\n", encoding="utf-8")
        self._saved = [*self.names], {**self._became}


def _read(file: Path) -> tuple[list[str], dict[str, str]]:
    check_regular(file, AnnotationError)
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["format"] > _FORMAT:
        raise AnnotationError("was written by a later samjax: update it")
    names = check_names(content["classes"])
    renamed = {str(old): str(new) for old, new in content["renamed"].items()}
    return names, {old: new for old, new in renamed.items() if old not in names}


def _put_away(file: Path) -> str | None:
    """Rename a file that cannot be used, and return the line that says so."""
    if not file.exists():
        return None
    try:
        _read(file)
    except Exception as error:  # JSON, keys and types of a file that anybody may have edited
        reason = " ".join(f"{error}".split())
        aside = set_aside(file, "damaged")
        return f"{file.name} was not used ({reason}); it is kept as {aside.name}: check the classes"
    return None
