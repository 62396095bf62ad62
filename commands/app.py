"""The command line: its subcommands, and the one place where errors become a line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

import visiontk
from visiontk.errors import OutputError, VisiontkError

from . import console, interrupts
from .subcommands import Subcommands

INTERRUPTED, SIGPIPE_DEATH, BUG = 130, 141, 1

# Plain help: Typer's coloured panels cost twice the start-up time of everything else.
app = typer.Typer(name="visiontk", cls=Subcommands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Experiments with four families of vision models, chained in pipes of JSON lines.

    \b
    visiontk classify photos/                              labels for every image of a folder
    visiontk classify clip.mp4 --fps 1 > clip.jsonl        one line for each second
    find . -name '*.jpg' | visiontk classify | jq .path    a pipe of paths in, a pipe of records out
    """
    if version:
        print(f"visiontk {visiontk.__version__}")  # noqa: T201
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 a bug, 2 usage, 3 some items failed, 4 no model, 5 no device, 6 no output, 130 interrupted, 141 the reader went away;
    129 and 143, ended by SIGHUP and SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    interrupts.install()
    try:
        code = app(args=arguments, prog_name="visiontk", standalone_mode=False)
        if sys.stdout:  # None where it was closed before the start
            sys.stdout.flush()
        return interrupts.exit_code() if code == INTERRUPTED else int(code or 0)  # Typer makes a code of KeyboardInterrupt
    except KeyboardInterrupt:
        return interrupts.exit_code()
    except (interrupts.ReaderGone, BrokenPipeError):
        _drop_output()  # and return as a program that SIGPIPE ends
        return SIGPIPE_DEATH
    except VisiontkError as error:
        if isinstance(error, OutputError):
            _drop_output()
        _explain(error, arguments)
        return error.exit_code
    except typer.Abort:
        return interrupts.exit_code()
    except Exception as error:  # noqa: BLE001  the last resort: whatever it is becomes one line and an exit code
        if type(error).__name__ == "NoArgsIsHelpError":  # a command group on its own: its message is the whole help
            sys.stderr.write(str(error) + "\n")
            return 2
        if hasattr(error, "format_message"):  # Typer's own errors of usage
            console.say(_usage_line(error), "error")
            return int(getattr(error, "exit_code", 2))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # from printing help, a list, a schema
            _drop_output()
            console.say(f"cannot write to the output ({error.strerror}); make room or choose another place", "error")
            return OutputError.exit_code
        _explain(error, arguments)
        return BUG


def _drop_output() -> None:
    """What Python still holds for standard output and would flush at its end has nowhere to go, or it goes now."""
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _explain(error: Exception, arguments: list[str]) -> None:
    if "--debug" in arguments:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, VisiontkError):
        console.say(str(error), "error")
    else:
        console.say(f"{type(error).__name__}: {error}; this is a bug, run again with --debug and report what it prints", "error")


def _usage_line(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "visiontk"
    return f"{error.format_message().rstrip('.')}; see `{command} --help`"  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
