"""Completion in the shell, asked as the shells ask."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("visiontk")


def ask(**variables: str) -> str:
    done = subprocess.run([PROGRAM], env={**os.environ, **variables}, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        ("visiontk se", {"segment"}, {"classify", "schema"}),
        ("visiontk classify --to", {"--top-k"}, {"--tta"}),
        ("visiontk classify -m vit-", {"vit-base", "vit-large"}, {"tiny-vit", "sdxl"}),
        ("visiontk inspect ti", {"tiny-vit"}, {"tiny-sam2", "vit-base"}),
    ],
)
def test_bash_and_zsh_offer_commands_options_and_models(words: str, offered: set[str], not_offered: set[str]) -> None:
    bash = ask(_VISIONTK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)).split()
    assert offered <= set(bash) and not not_offered & set(bash)
    assert all(word.startswith(words.split()[-1]) for word in bash)
    zsh = ask(_VISIONTK_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=words)
    assert zsh.startswith("_arguments '*: :((")
    assert all(f'"{word}' in zsh for word in offered) and not any(f'"{word}"' in zsh for word in not_offered)


def test_what_is_installed_works_in_a_bash() -> None:
    script = f"""
        source <(_VISIONTK_COMPLETE=source_bash {shlex.quote(str(PROGRAM))})
        COMP_WORDS=(visiontk segment -m sam2.1-t) COMP_CWORD=3
        _visiontk_completion {shlex.quote(str(PROGRAM))}
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p visiontk
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["sam2.1-tiny", "complete -o default -F _visiontk_completion visiontk"]


def test_the_line_for_zsh_calls_the_program_by_name() -> None:
    shown = ask(_VISIONTK_COMPLETE="source_zsh")
    assert shown.lstrip().startswith("#compdef visiontk")
    assert '_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _VISIONTK_COMPLETE=complete_zsh visiontk' in shown
