"""Pillow speaks in three ways beside its exceptions: warnings, log lines, and libtiff's own prints. None may reach a user's stderr."""

from __future__ import annotations

import ctypes
import logging
import re
import warnings

from PIL import _imaging

_PIL_MODULES = r"PIL\."
_FILTER = ("ignore", None, Warning, re.compile(_PIL_MODULES), 0)


def silence_pillow() -> None:
    """Log lines and libtiff's prints, for this process. Pillow raises its errors all the same; log handlers that are set keep theirs."""
    # Python prints errors that are logged where there is no handler at all.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        # Pillow has no door to this. A symbol is looked up in the libraries that Pillow's own is linked with, so it is the same libtiff.
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # linked statically, or Pillow without libtiff
        return
    set_handler.restype = ctypes.c_void_p
    set_handler(None)


def ignore_pillow_warnings() -> None:
    """Warnings raised in Pillow's own modules, about bombs and odd metadata; to be called before each decoding, which is cheap.

    ``warnings.catch_warnings`` would put another thread's filters back, and images are decoded in threads; so the filter is put in place
    where it is missing, and left there.
    """
    if _FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PIL_MODULES)
