"""Inputs that are URLs: from a small server on this machine, and only where that was allowed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from visiontk import sources
from visiontk.errors import ItemError
from visiontk.media import files
from visiontk.media.clips import Clip

if TYPE_CHECKING:
    from tests.conftest import Run, Valid


class Site(ThreadingHTTPServer):
    """Serves ``pages``: bytes by path, or the number of an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.pages: dict[str, bytes | int] = {}
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path.partition("?")[0], 404)
        self.send_response(page if isinstance(page, int) else 200)
        self.end_headers()
        if isinstance(page, bytes):
            try:
                self.wfile.write(page)
            except ConnectionError:  # whoever has read enough goes
                return

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def error_of(url: str) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        files.fetch(url)
    return caught.value.kind, caught.value.message


def test_a_picture_from_a_url_is_the_picture(classify: Run, site: Site, photos: Path, valid: Valid) -> None:
    site.pages["/a/coffee"] = (photos / "coffee.jpg").read_bytes()
    url = site.url("/a/coffee?size=full")
    [refused] = valid(classify(url), 3)
    assert refused["classify"]["error"] == {"kind": "refused", "message": "URLs are fetched only with --allow-urls"}
    assert site.asked == []
    [fetched] = valid(classify(url, "--allow-urls"))
    [local] = classify(photos / "coffee.jpg").records
    assert fetched["path"] == url
    assert fetched["classify"]["labels"] == local["classify"]["labels"]
    assert site.asked == ["/a/coffee?size=full"]
    [again] = valid(classify("--allow-urls", "--as", "again", stdin=json.dumps(fetched).encode()))
    assert again["again"]["labels"] == local["classify"]["labels"]


def test_what_cannot_be_fetched_fails_alone_and_says_why(classify: Run, site: Site, photos: Path, valid: Valid) -> None:
    site.pages |= {"/good.jpg": (photos / "coffee.jpg").read_bytes(), "/secret.jpg": 403, "/page.jpg": b"<html>no picture</html>"}
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}/x.jpg"
    urls = [site.url(f"/{name}.jpg") for name in ("none", "secret", "page", "good")]
    records = valid(classify(*urls, closed, "http://[half/x.jpg", "http://127.0.0.1/a b.jpg", "--allow-urls"), 3)
    assert [record["path"] for record in records] == [*urls, closed, "http://[half/x.jpg", "http://127.0.0.1/a b.jpg"]
    errors = [record["classify"].get("error") for record in records]
    assert errors[:2] == [
        {"kind": "missing", "message": "the server answered 404 Not Found"},
        {"kind": "unreadable", "message": "the server answered 403 Forbidden"},
    ]
    assert [error and error["kind"] for error in errors[2:]] == ["not_an_image", None, "unreadable", "unreadable", "unreadable"]
    assert errors[4]["message"] == "could not be fetched (Connection refused)"
    assert not any("urlopen" in error["message"] for error in errors if error)


def test_a_name_that_no_server_has_and_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(files, "URL_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert error_of(url) == ("unreadable", "could not be fetched (timed out)")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert error_of("http://nowhere.invalid/") == ("unreadable", "could not be fetched (Name or service not known)")


def test_no_more_is_read_than_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.URL_MAX_BYTES == 200 * 2**20
    monkeypatch.setattr(files, "URL_MAX_BYTES", 2**20)
    site.pages |= {"/just": bytes(2**20), "/over": bytes(2**20 + 1)}
    assert len(files.fetch(site.url("/just"))) == 2**20
    assert error_of(site.url("/over")) == ("too_large", "more than 1 MB")


def test_a_video_from_a_url_gives_its_frames(classify: Run, site: Site, bunny: Path, valid: Valid) -> None:
    site.pages |= {"/clip.mp4": bunny.read_bytes(), "/watch": bunny.read_bytes()}
    local = valid(classify(bunny, "--every", "40", "-b", "1"))
    fetched = valid(classify(site.url("/clip.mp4?id=1"), "--every", "40", "-b", "1", "--allow-urls"))
    assert site.asked == ["/clip.mp4?id=1"]
    assert {record["path"] for record in fetched} == {site.url("/clip.mp4?id=1")}
    for one, other in zip(local, fetched, strict=True):
        assert (one["frame"], one["time"], one["classify"]["labels"]) == (other["frame"], other["time"], other["classify"]["labels"])
    [unnamed] = valid(classify(site.url("/watch"), "--allow-urls"), 3)
    assert unnamed["classify"]["error"] == {
        "kind": "not_an_image",
        "message": "a video whose URL does not end like one (.mp4, .webm, ...); download it first",
    }
    line = json.dumps({"path": site.url("/clip.mp4"), "frame": 3}).encode()
    [frame] = valid(classify("--allow-urls", stdin=line), 3)
    assert frame["classify"]["error"]["kind"] == "refused" and "download it first" in frame["classify"]["error"]["message"]


@pytest.mark.parametrize("path", ["/clip.mp4", "/watch"])
def test_a_video_from_a_url_is_one_clip_where_videos_are_items(site: Site, bunny: Path, path: str) -> None:
    site.pages[path] = bunny.read_bytes()
    [item] = sources.from_arguments_whole([site.url(path)], None, sources.Reading(allow_urls=True))
    assert item.load is not None
    clip = item.load()
    assert isinstance(clip, Clip)
    [local] = sources.from_arguments_whole([str(bunny)], None, sources.Reading())
    assert local.load is not None
    whole = local.load()
    assert isinstance(whole, Clip)
    for one, other, _ in zip(clip.read(0), whole.read(0), range(5), strict=False):
        assert (one.index, one.time, one.image.tobytes()) == (other.index, other.time, other.image.tobytes())


def test_a_visual_sentence_from_a_url_is_measured_where_that_is_allowed(run: Run, site: Site, bunny: Path) -> None:
    site.pages["/clip.mp4"] = bunny.read_bytes()
    command = ["eval", "lvm", site.url("/clip.mp4?id=1"), "-m", "tiny-lvm", "--frames", "2", "--threads", "1"]
    refused = run(*command)
    assert refused.code == 3 and "no sentence could be measured" in refused.error and "--allow-urls" in refused.stderr
    assert run(*command, "--allow-urls").records[-1]["frames"] == 2
