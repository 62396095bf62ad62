"""The key that `--as` gives to results: a record whose own keys were taken could not be read by the next stage."""

from __future__ import annotations

from importlib import import_module

import pytest

from visiontk.errors import UsageError

stage_key = import_module("visiontk.commands.running").stage_key


def test_the_commands_own_name_unless_another_is_given() -> None:
    assert stage_key(None, "classify") == stage_key("classify", "classify") == "classify"
    assert stage_key("second", "classify") == "second"


@pytest.mark.parametrize("name", ["", "path", "frame", "time", "input", "prompts", "segment", "tiny"])
def test_names_that_records_use_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f'--as "{name}" cannot be the name of results'):
        stage_key(name, "classify")
