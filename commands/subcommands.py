"""The subcommands: each is imported when it is called, and `visiontk --help` imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup


def _classify() -> typer.Typer:
    from .classify import AttentionCommand, classify

    return _single(classify, AttentionCommand)


def _segment() -> typer.Typer:
    from .segment import segment

    return _single(segment)


def _generate() -> typer.Typer:
    from .generate import generate

    return _single(generate)


def _replay() -> typer.Typer:
    from .replay import replay

    return _single(replay)


def _lvm_continue() -> typer.Typer:
    from .lvm_continue import ContinueCommand, lvm_continue

    return _single(lvm_continue, ContinueCommand)


def _lvm_prompt() -> typer.Typer:
    from .lvm_prompt import lvm_prompt

    return _single(lvm_prompt)


def _inspect() -> typer.Typer:
    from .inspect import inspect

    return _single(inspect)


def _train() -> typer.Typer:
    from .train import train

    return train


def _eval() -> typer.Typer:
    from .eval import evaluate

    return evaluate


def _tiny() -> typer.Typer:
    from .tiny import tiny

    return tiny


def _models() -> typer.Typer:
    from .models import models

    return models


def _doctor() -> typer.Typer:
    from .doctor import doctor

    return _single(doctor)


def _schema() -> typer.Typer:
    from .schema import schema

    return _single(schema)


# The one line of each is what its own help begins with; a test compares them.
SUBCOMMANDS: dict[str, tuple[str, Callable[[], typer.Typer]]] = {
    "classify": ("Label images and video frames.", _classify),
    "segment": ("Cut out objects in images and videos.", _segment),
    "generate": ("Make images from text.", _generate),
    "replay": ("Make an image again, and say whether it is the same.", _replay),
    "lvm-continue": ("Continue a visual sentence: images in, the next images out.", _lvm_continue),
    "lvm-prompt": ("Make few-shot prompts for a large vision model.", _lvm_prompt),
    "inspect": ("Draw what a vision transformer has learned.", _inspect),
    "train": ("Train models on your own pictures.", _train),
    "eval": ("Measure results against the truth.", _eval),
    "tiny": ("A small world of a hundred things, rendered without limit.", _tiny),
    "models": ("List, show, fetch and remove models.", _models),
    "doctor": ("Say what is installed and what would run.", _doctor),
    "schema": ("Print the JSON Schema of the records.", _schema),
}


class Subcommands(TyperGroup):
    """A group whose members are built when they are asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        names: Any = dict.fromkeys(SUBCOMMANDS)
        self.commands = names  # no commands yet, and all that "Did you mean" looks at

    def list_commands(self, ctx: Any) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in SUBCOMMANDS:
            return None
        _, load = SUBCOMMANDS[cmd_name]
        command: Any = typer.main.get_command(load())
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (line, _) in SUBCOMMANDS.items()])


def _single(function: Callable[..., Any], cls: Any = None) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(cls=cls)(function)
    return app
