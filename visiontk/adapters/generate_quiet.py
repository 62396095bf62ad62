"""Keeping diffusers and what it stands on quiet: what matters is raised, or said by us."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("accelerate", "diffusers", "peft", "torchao", "transformers")


@contextmanager
def importing() -> Iterator[None]:
    """No log lines below errors, of any library: importing diffusers beside torchao writes three, from torch among others."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no progress bars while diffusers loads and runs.

    Bars come from three places: loading a pipeline's components, transformers loading weights, and the pipeline itself, whose own
    bar is switched off where the pipeline is made.
    """
    with importing():
        import diffusers.utils.logging as diffusers_logging
        import transformers.utils.logging as transformers_logging

    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    bars = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    try:
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.ERROR)
        for library in bars:
            library.disable_progress_bar()
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for library in bars:
            library.enable_progress_bar()
