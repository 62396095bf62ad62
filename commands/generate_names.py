"""Names of the pictures that `visiontk generate` writes."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from visiontk.artefacts import Naming, is_folder
from visiontk.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
DEFAULT_SUFFIX = ".png"
FIELDS = ("seed", "prompt_slug", "model")
PATTERN = "{index}-{prompt_slug}-{seed}"
_LONGEST, _MOST_BYTES = 40, 120


def naming(out: str | None, *, overwrite: bool) -> Naming:
    """The names that ``-o`` gives. Raises UsageError."""
    return Naming(out, overwrite, fields=FIELDS, pattern=PATTERN)


def suffix(out: str | None) -> str | None:
    """The kind of file that ``-o`` asks for, None where it asks for none. Raises UsageError for one that is not written."""
    found = Path(out or "").suffix
    if not out or "{" in found or is_folder(out):
        return None
    if found.lower() not in SUFFIXES:
        raise UsageError(f"-o {out}: {found} is not written; use {', '.join(SUFFIXES)}, or end a folder's name with /")
    return found.lower()


def slug(text: str) -> str:
    """Letters and digits of a text, in lower case, with hyphens between its words: what a file can be called everywhere."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())
    found = ""
    for word in words:
        longer = f"{found}-{word}" if found else word[:_LONGEST]
        if len(longer) > _LONGEST or len(os.fsencode(longer)) > _MOST_BYTES:
            break
        found = longer
    return found or "picture"


def model_slug(model: str) -> str:
    """The last part of a model's name or path, without what a file should not be called."""
    last = Path(model.partition("@")[0].rstrip("/")).name
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"


def preview(picture: Path, step: int) -> Path:
    """The file of what a picture was after a step."""
    return picture.with_name(f"{picture.stem}-preview-{step:04d}.png")
