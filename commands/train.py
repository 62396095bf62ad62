"""`visiontk train`: the commands that train, one for each family of models."""

from __future__ import annotations

import typer

from .train_classify import classify
from .train_generate import generate
from .train_lvm import lvm
from .train_segment import segment

train = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="Train models on your own pictures.")


@train.callback()
def _group() -> None:
    """Train models on your own pictures."""


train.command()(classify)
train.command()(segment)
train.command()(generate)
train.command()(lvm)
