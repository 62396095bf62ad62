"""A contact sheet: up to twelve overlays of a run, evenly spread over it, however long it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visiontk.artefacts import DEFAULT_FOLDER, Naming, is_folder, write
from visiontk.records import Record

from .console import say
from .segment_places import Places

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 12
WIDTH = 320  # pixels


class Sheet:
    """Collects overlays, of which it wants every one, then every second, every fourth ..., and at the end writes the sheet.

    It is named ``contact-sheet.jpg``, with a number where there is one already, beside what ``out`` names; no PNG, as `eval segment`
    would take that for a mask.
    """

    def __init__(self, out: str | None, *, overwrite: bool = False) -> None:
        self._naming = Naming(_folder(out), overwrite, aside=True)
        self._seen, self._stride = 0, 1
        self._pictures: list[tuple[Image, str]] = []
        self.places = Places()

    def wants_next(self) -> bool:
        """Whether the overlay of the next item is wanted; to be asked once for each."""
        self._seen += 1
        return (self._seen - 1) % self._stride == 0

    def add(self, overlay: Image, record: Record) -> None:
        small = overlay.copy()
        small.thumbnail((WIDTH, 4 * WIDTH))
        name = Path(str(record.get("path", ""))).name
        self._pictures.append((small, f"{name}  {record['frame']}" if "frame" in record else name))
        if len(self._pictures) == 2 * MOST:
            self._pictures = self._pictures[::2]
            self._stride *= 2

    def write(self) -> None:
        """Say where the run's files are, and write the sheet, if there is more than one picture for it. Raises OutputError."""
        for line in self.places.lines():
            say(line)
        if len(self._pictures) < 2:
            return
        from visiontk.media.overlay import contact_sheet

        count = min(MOST, len(self._pictures))
        chosen = [self._pictures[number * len(self._pictures) // count] for number in range(count)]
        sheet = contact_sheet([picture for picture, _ in chosen], [name for _, name in chosen], width=WIDTH)
        path = self._naming.path({"path": "contact-sheet"}, 0, "", ".jpg")
        write(path, lambda file: sheet.save(file, format="JPEG", quality=92))
        say(f"a contact sheet is in {path}")


def _folder(out: str | None) -> str:
    """The folder that ``-o`` names, or that of the file or the template."""
    if out is None:
        return DEFAULT_FOLDER
    if "{" in out:
        return str(Path(out.partition("{")[0] + "x").parent)
    return out if is_folder(out) else str(Path(out).parent)
