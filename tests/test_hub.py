"""Fetching from a hub: a small server on this machine that speaks as much of the hub's protocol as a download takes."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from visiontk import hub
from visiontk.errors import ModelUnavailable

if TYPE_CHECKING:
    from tests.conftest import Run, TinyModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves the files of ``repos`` at ``/REPO/resolve/REVISION/NAME`` and counts what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Path] = {}
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(self.path)

    def _answer(self, *, body: bool) -> None:
        repo, _, rest = self.path.strip("/").partition("/resolve/")
        folder = self.server.repos.get(repo)
        if self.path == "/":
            self._send(200, {}, b"", body)
        elif folder is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", body)
        elif not (folder / rest.partition("/")[2]).is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"", body)
        else:
            data = (folder / rest.partition("/")[2]).read_bytes()
            self._send(200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}, data, body)

    def _send(self, code: int, headers: dict[str, str], data: bytes, body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def server(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    from huggingface_hub import constants

    hub.answers.cache_clear()
    with Server() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    hub.answers.cache_clear()


def test_a_hub_model_is_fetched_once_and_then_runs_without_the_hub(run: Run, server: Server, tiny_model: TinyModel, photos: Path) -> None:
    server.repos["org/tiny"] = tiny_model.folder
    photo = photos / "coffee.jpg"
    first = run("classify", "-q", "-m", "org/tiny", photo)
    assert first.code == 0, first.stderr
    assert first.records[0]["classify"]["model"] == "org/tiny"
    assert first.records[0]["classify"]["revision"] == COMMIT
    server.shutdown()
    asked = len(server.asked)
    second = run("classify", "-q", "-m", "hf-hub:org/tiny", photo)
    assert second.records[0]["classify"]["labels"] == first.records[0]["classify"]["labels"]
    assert len(server.asked) == asked


def test_pull_show_and_rm(run: Run, server: Server, tiny_model: TinyModel, hub_cache: Path) -> None:
    server.repos["org/tiny"] = tiny_model.folder
    assert run("models", "pull", "org/tiny").code == 0
    shown = json.loads(run("models", "show", "org/tiny").stdout)
    assert (shown["cached"], shown["revision"]) == (True, COMMIT)
    assert run("models", "rm", "org/tiny").code == 0
    assert run("models", "show", "org/tiny").code == 4


def test_the_recommended_model_runs_when_the_hub_answers(run: Run, server: Server, tiny_model: TinyModel, photos: Path) -> None:
    server.repos["timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"] = tiny_model.folder
    done = run("classify", photos / "coffee.jpg")
    assert done.records[0]["classify"]["model"] == "vit-base"
    assert "bundled" not in done.stderr


def test_a_repository_that_is_not_there_or_is_no_model(run: Run, server: Server, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    server.repos["org/empty"] = tmp_path / "empty"
    missing = run("classify", "-m", "org/missing", photos)
    assert (missing.code, missing.error) == (4, "the hub has no model org/missing; see `visiontk models list` for names that work")
    empty = run("classify", "-m", "org/empty", photos)
    assert (empty.code, empty.error) == (4, "org/empty has no config.json, so it is not a timm model; name another")


def test_a_hub_that_never_answers_costs_three_seconds_once(monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.answers.cache_clear()
        begun = time.monotonic()
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match="the model hub cannot be had"):
                hub.fetch("org/tiny")
        assert time.monotonic() - begun < hub.PROBE_S + 0.5
    hub.answers.cache_clear()
