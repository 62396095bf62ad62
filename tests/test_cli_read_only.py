"""Folders that take no files: one line, exit code 6, and what was answered before is not lost.

Tests often run as root, for whom no folder is read-only: the refusal comes from `os.open` itself, as of a file system.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Result, Run, TinyModel

ReadOnly = Callable[..., AbstractContextManager[None]]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
REASONS = [(errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only file system")]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> ReadOnly:
    """``with read_only(folder, code)``: no file and no folder can be made in it, or only ``after`` so many files."""

    @contextmanager
    def refusing(folder: str, code: int, after: int = 0) -> Iterator[None]:
        left = after
        whole, make_folder = os.open, os.mkdir

        def is_inside(path: Any) -> bool:
            return not isinstance(path, int) and Path(os.fsdecode(path)).absolute().is_relative_to(Path(folder).absolute())

        def guarded(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            nonlocal left
            if flags & WRITING and is_inside(path):
                left -= 1
                if left < 0:
                    raise OSError(code, os.strerror(code), os.fsdecode(path))
            return whole(path, flags, *arguments, **options)

        def guarded_folder(path: Any, *arguments: Any, **options: Any) -> None:
            if is_inside(path) and not os.path.lexists(path):
                raise OSError(code, os.strerror(code), os.fsdecode(path))
            make_folder(path, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", guarded)
            patch.setattr(os, "mkdir", guarded_folder)
            yield

    return refusing


def check(result: Result, reason: str, place: str) -> None:
    assert (result.code, result.stderr.count("\n")) == (6, 1), result.stderr
    assert result.error.startswith("cannot write") and place in result.error
    assert reason in result.error and "; " in result.error


@pytest.mark.parametrize(("code", "reason"), REASONS)
@pytest.mark.parametrize("place", ["locked", "locked/new"])
def test_nothing_can_be_written_at_all(classify: Run, photos: Path, read_only: ReadOnly, code: int, reason: str, place: str) -> None:
    Path("locked").mkdir()
    for arguments in (["--attention", "-o", f"{place}/"], ["--embed", "-o", f"{place}/x.npz"], ["--resume", "locked/x.jsonl"]):
        with read_only("locked", code):
            result = classify(photos / "camera.png", *arguments)
        check(result, reason, arguments[-1].split("/")[0])
        assert result.stdout == b""
    assert list(Path("locked").iterdir()) == []


@pytest.mark.parametrize(("code", "reason"), REASONS)
def test_a_folder_that_becomes_read_only_in_the_middle_loses_no_line(
    classify: Run, photos: Path, read_only: ReadOnly, code: int, reason: str
) -> None:
    names = [str(photos / name) for name in ("camera.png", "chelsea.png", "coffee.jpg")]
    command = (*names, "--attention", "-o", "out/", "--resume", "lines.jsonl")
    Path("out").mkdir()
    with read_only("out", code, after=2):  # the picture and the array of the first
        check(classify(*command), reason, "out/chelsea-attention.png")
    [first] = [json.loads(line) for line in Path("lines.jsonl").read_bytes().splitlines()]
    assert first["path"] == names[0]
    assert sorted(path.name for path in Path("out").iterdir()) == ["camera-attention.npy", "camera-attention.png"]
    held = Path("out/camera-attention.png").read_bytes()
    assert classify(*command).code == 0
    lines = [json.loads(line) for line in Path("lines.jsonl").read_bytes().splitlines()]
    assert [line["path"] for line in lines] == names
    assert lines[0] == first and Path("out/camera-attention.png").read_bytes() == held
    assert len(list(Path("out").iterdir())) == 6


def test_the_figures_of_inspect(run: Run, tiny_model: TinyModel, read_only: ReadOnly) -> None:
    with read_only("locked", errno.EROFS):
        result = run("inspect", tiny_model.folder, "--figure", "filters", "-o", "locked/")
    check(result, "Read-only file system", "locked/vit-filters.png")
    assert result.stdout == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in every folder")
def test_a_folder_without_the_right_to_write(classify: Run, photos: Path) -> None:
    Path("locked").mkdir(mode=0o555)
    for arguments in (["--attention", "-o", "locked/"], ["--embed", "-o", "locked/x.npz"], ["--resume", "locked/x.jsonl"]):
        check(classify(photos / "camera.png", *arguments), "Permission denied", "locked")
