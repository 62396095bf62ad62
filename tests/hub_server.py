"""A small server on this machine that speaks as much of the hub's protocol as a download takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Serves the files of ``repos`` at ``/REPO/resolve/REVISION/NAME``, lists them, and counts what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Path] = {}
        self.commits: dict[str, str] = {}  # where it is not COMMIT
        self.asked: list[str] = []
        self.broken = "?"  # connections break off in the middle of files whose names end so

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
        asked = self.path.partition("?")[0].removeprefix("/api/models/").partition("/revision/")[0]
        if self.path.startswith("/api/models/") and asked in self.server.repos:
            files = sorted(file.relative_to(self.server.repos[asked]) for file in self.server.repos[asked].rglob("*") if file.is_file())
            listing = {
                "id": asked,
                "sha": self.server.commits.get(asked, COMMIT),
                "siblings": [{"rfilename": file.as_posix()} for file in files],
            }
            self._send(200, {"Content-Type": "application/json"}, json.dumps(listing).encode(), body)
        elif self.path == "/":
            self._send(200, {}, b"", body)
        elif folder is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", body)
        elif not (folder / rest.partition("/")[2]).is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.server.commits.get(repo, COMMIT)}, b"", body)
        else:
            data = (folder / rest.partition("/")[2]).read_bytes()
            self._send(
                200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": self.server.commits.get(repo, COMMIT)}, data, body
            )

    def _send(self, code: int, headers: dict[str, str], data: bytes, body: bool) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.path.endswith(self.server.broken):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    """The hub is such a server."""
    from huggingface_hub import constants

    from visiontk import hub

    hub.answers.cache_clear()
    with Server() as running, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", running.endpoint)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    hub.answers.cache_clear()
