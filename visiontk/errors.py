"""Errors of the toolkit, each with its cure in the message and its exit code.

Raised where the cause is known; turned into a line on stderr and an exit code in one place, the command line's entry point.
"""

from __future__ import annotations


class VisiontkError(Exception):
    """Base of every error that a user can mend. The message says what is wrong, then what to do: ``"x is y; do z"``."""

    exit_code = 1


class UsageError(VisiontkError):
    """The command, an option or a settings file is wrong (exit code 2)."""

    exit_code = 2


class ModelUnavailable(VisiontkError):
    """A model cannot be had: unknown, not cached and the hub out of reach, refused or broken (exit code 4)."""

    exit_code = 4


class HubUnreachable(ModelUnavailable):
    """It is not cached, and the hub does not answer."""


class DeviceError(VisiontkError):
    """The device cannot do what was asked (exit code 5)."""

    exit_code = 5


class OutOfMemory(DeviceError):
    """The device ran out of memory on this batch; a smaller one may pass."""


class OutputError(VisiontkError):
    """Records or artefacts cannot be written: disk full, read-only folder (exit code 6)."""

    exit_code = 6


class ItemError(VisiontkError):
    """One item failed and the others are unharmed; it becomes ``{"error": {"kind", "message"}}`` in the item's line (exit code 3).

    ``kind`` is one stable word for scripts: ``missing``, ``unreadable``, ``not_an_image``, ``broken``, ``too_large``, ``no_images``,
    ``no_frame``, ``bad_record``, ``bad_prompt``, ``refused``, ``exists``, ``not_finite``, ``blocked``, ``no_parameters``,
    ``not_generated``.
    """

    exit_code = 3

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages of one line; with what comes next where it is a heading."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
