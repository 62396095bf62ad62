"""The bytes of a file or of what a URL names; whatever goes wrong is an ``ItemError``."""

from __future__ import annotations

import http.client
import os
import stat
import urllib.error
import urllib.request
from pathlib import Path

from visiontk.errors import ItemError, first_line

URL_TIMEOUT_S = 30
URL_MAX_BYTES = LARGE_BYTES = 200 * 2**20


def read(path: str) -> bytes:
    """All of a file or of a named pipe. Raises ``ItemError``: ``missing``, ``unreadable``, also for devices, which may never end."""
    try:
        if stat.S_ISCHR(os.stat(path).st_mode):  # noqa: PTH116  Path.stat raises other errors for names that no file can have
            raise ItemError("unreadable", "a device and not a file")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ItemError("missing", "there is no such file") from error
    except MemoryError as error:
        raise ItemError("too_large", "larger than the memory that is left") from error
    except (OSError, ValueError) as error:
        raise ItemError("unreadable", f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def large_head(path: str) -> bytes:
    """The first bytes of a file of more than `LARGE_BYTES`, to be looked at before it is read; nothing of a smaller one, or of none."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode) or status.st_size <= LARGE_BYTES:
            return b""
        with Path(path).open("rb") as file:
            return file.read(64)
    except (OSError, ValueError):  # whoever reads it is told why
        return b""


def fetch(url: str) -> bytes:
    """What an http or https URL names. Raises ``ItemError``: ``missing``, ``unreadable``, ``too_large``."""
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as response:
            data: bytes = response.read(URL_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        kind = "missing" if error.code in (404, 410) else "unreadable"
        raise ItemError(kind, f"the server answered {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ItemError("unreadable", f"could not be fetched ({_why(error)})") from error
    if len(data) > URL_MAX_BYTES:
        raise ItemError("too_large", f"more than {URL_MAX_BYTES // 2**20} MB")
    return data


def _why(error: BaseException) -> str:
    """In words what went wrong: urllib wraps the error of the network, and that one has its number in its text."""
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, BaseException) else error
    return getattr(cause, "strerror", None) or first_line(cause)
