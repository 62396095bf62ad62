"""What the tests of `visiontk lvm-continue` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def models_loaded_once() -> Iterator[None]:
    """Runs with the same options share a model, as reading it takes longer than a tiny picture."""
    from visiontk.adapters import lvm as adapter

    kept: dict[str, Any] = {}
    whole = adapter.load

    def load(*arguments: Any, **options: Any) -> Any:
        key = repr((arguments, sorted(options.items())))
        if key not in kept:
            kept[key] = whole(*arguments, **options)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "load", load)
        yield
