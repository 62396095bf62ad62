"""A sentence and its continuation to look at: a film strip, and an animation of each candidate."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visiontk.artefacts import write

if TYPE_CHECKING:
    from PIL.Image import Image

FPS = 8.0  # of an animation


class Film:
    """Collects the pictures of one sentence, the first ``most`` of each candidate; None for all."""

    def __init__(self, given: Sequence[Image], candidates: int, *, pairs: bool, most: int | None) -> None:
        self._given, self._pairs, self._most = given, pairs, most
        self._made: list[list[Image]] = [[] for _ in range(candidates)]

    def add(self, candidate: int, number: int, image: Image) -> None:
        """The next picture of a candidate."""
        if self._most is not None and number >= self._most:
            return
        assert number == len(self._made[candidate]), "frames come in their order"
        self._made[candidate].append(image)

    def write_strip(self, path: Path) -> bool:
        """Write the strip, if anything was made. Raises OutputError."""
        if not any(self._made):
            return False
        from visiontk.media import film_strip

        strip = film_strip.draw(self._given, self._made, pairs=self._pairs)
        write(path, lambda file: strip.save(file, format="PNG"))
        return True

    def write_animation(self, path: Path, candidate: int) -> bool:
        """Write what was given and then what was made, as WebP or MP4 by the suffix, if anything was made. Raises OutputError."""
        if not self._made[candidate]:
            return False
        from visiontk.media import film_strip
        from visiontk.media.video_writer import VideoWriter

        pictures = map(film_strip.frame, (*self._given, *self._made[candidate]))
        if path.suffix == ".webp":
            data = film_strip.animated_webp(pictures, FPS)
        else:
            first, buffer = next(pictures), io.BytesIO()
            with VideoWriter(buffer, width=first.width, height=first.height, fps=FPS) as film:
                for picture in (first, *pictures):
                    film.write(picture)
            data = buffer.getvalue()
        write(path, lambda file: file.write(data))
        return True
