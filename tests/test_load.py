"""`visiontk.load`: its types say what each family's own loader takes, no more and no less."""

from __future__ import annotations

import inspect
import typing
from importlib import import_module, resources

import pytest

import visiontk
from visiontk.errors import UsageError

FAMILIES = ("classify", "segment", "generate", "lvm")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_options_are_those_of_the_loader(family: str) -> None:
    signatures = [inspect.signature(overload) for overload in typing.get_overloads(visiontk.load)]
    assert len(signatures) == len(FAMILIES)
    signature = signatures[FAMILIES.index(family)]
    first, *promised = signature.parameters.values()
    taken = inspect.signature(import_module(f"visiontk.adapters.{family}").load)
    assert first.annotation == f"Literal['{family}']"
    assert promised == list(taken.parameters.values())
    assert signature.return_annotation == taken.return_annotation


def test_a_task_that_is_none() -> None:
    with pytest.raises(UsageError, match="there is no task 'paint'; use classify, segment, generate or lvm"):
        visiontk.load("paint")  # type: ignore[call-overload]


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("visiontk").joinpath("py.typed").is_file()
