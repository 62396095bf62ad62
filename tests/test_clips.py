"""Videos as a whole: which pictures are the frames of one, whether there is more in them, and frames that wait on disk."""

from __future__ import annotations

import errno
import io
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pytest
from PIL import Image

from tests.films import save_film
from visiontk.artefacts import Naming, writing
from visiontk.errors import ItemError, OutputError
from visiontk.media import clips, files, images, pipes, spool
from visiontk.media import tape as tape_module
from visiontk.media.spool import Backlog, FrameSpool, Spool
from visiontk.media.tape import Tape
from visiontk.media.video import VideoFrame, is_camera

if TYPE_CHECKING:
    from tests.conftest import Run


def noise(seed: int, width: int = 33, height: int = 21) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["00000.jpg", "00001.jpg"], True),
        (["7.jpg", "8.png", "100.jpg"], True),
        (["frame_1.png", "frame_02.png"], True),
        (["v1.2-008.png", "v1.2-009.png"], True),
        (["1.jpg", "01.jpg"], False),
        (["a1.jpg", "b2.jpg"], False),
        (["1.jpg", "notes.jpg"], False),
        (["1.jpg"], False),
        ([], False),
    ],
)
def test_frames_are_numbered_alike(names: list[str], wanted: bool) -> None:
    assert clips.are_frames(names) is wanted


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["b10.png", "b2.png", "10.png", "a.png", "9.png", "b2c1.png"]
    assert sorted(names, key=clips.in_order) == ["9.png", "10.png", "a.png", "b2.png", "b2c1.png", "b10.png"]


def test_a_clip_of_pictures_loads_each_when_it_is_its_turn() -> None:
    loaded: list[int] = []

    def load(number: int) -> Any:
        def picture() -> Image.Image:
            loaded.append(number)
            return noise(number)

        return picture

    clip = clips.from_pictures([load(number) for number in range(5)], [{"path": f"{number}.png"} for number in range(5)])
    frames = clip.read(2)
    assert (next(frames).index, loaded) == (2, [2])
    assert [frame.index for frame in frames] == [3, 4]
    assert (clip.line(4), clip.line(5), clip.holds(4), clip.holds(5)) == ({"path": "4.png"}, {}, True, False)


@pytest.mark.parametrize("counted", [True, False])
def test_whether_there_is_more(counted: bool) -> None:
    """Frames 0 to 4; without a count in the file, they are decoded to see."""

    def read(start: int) -> Any:
        return (VideoFrame(number, number / 10, noise(number)) for number in range(start, 5))

    def broken(start: int) -> Any:
        yield from read(start)
        raise ItemError("broken", "the rest is missing")

    whole = clips.Clip(read, (lambda: 5) if counted else (lambda: None))
    assert [whole.holds(number) for number in (0, 4, 5)] == [True, True, False]
    cut = clips.Clip(broken)
    assert [cut.holds(number) for number in (0, 4, 5, 6)] == [True, True, True, False], "five frames, and then an error"


def test_whether_it_surely_ends_before_a_frame() -> None:
    """The header may count wrong, and so what it says is looked into; but only where the frame would be past the end."""
    looked: list[int] = []

    def most() -> int:
        looked.append(1)
        return 5

    def clip(told: int | None) -> clips.Clip:
        return clips.Clip(lambda start: iter(()), most, roughly=lambda: told)

    assert [clip(5).ends_before(number) for number in (0, 4)] == [None, None] and not looked
    assert [clip(5).ends_before(number) for number in (5, 9)] == [5, 5]
    assert [clip(1).ends_before(number) for number in (1, 4, 5)] == [None, None, 5], "more than the header has"
    looked.clear()
    assert clip(None).ends_before(99) is None and not looked, "a pipe, a camera"


def test_a_moving_picture_has_times() -> None:
    first, *rest = [noise(number) for number in range(3)]
    data = io.BytesIO()
    first.save(data, "GIF", save_all=True, append_images=rest, duration=[200, 0, 50])
    assert images.is_animated(data.getvalue())
    found = [(time, shown) for time, shown, _ in images.timed_frames(data.getvalue())]
    assert found == [pytest.approx(pair) for pair in ((0, 0.2), (0.2, 0.1), (0.3, 0.05))], "100 ms where nothing is said"
    pages = io.BytesIO()
    first.save(pages, "TIFF", save_all=True, append_images=rest)
    assert not images.is_animated(pages.getvalue()), "pages are no animation"


def test_spools_give_back_what_was_put_in() -> None:
    pieces = [os.urandom(size) for size in (5, 0, 70_000, 1)]
    with Spool() as spool:
        for piece in pieces:
            spool.append(piece)
        assert [spool[number] for number in (2, 0, 3, 1)] == [pieces[number] for number in (2, 0, 3, 1)]
        assert list(spool) == pieces
        with pytest.raises(IndexError):
            spool[4]
    with FrameSpool() as frames:
        for number in range(3):
            frames.keep(VideoFrame(number + 7, number / 3, noise(number), 29.97, 16 / 15, 2.5 if number else None))
        back = frames.frame(1)
        assert (back.index, back.time, back.rate, back.pixel_aspect, back.duration) == (8, 1 / 3, 29.97, 16 / 15, 2.5)
        assert frames.frame(0).duration is None
        np.testing.assert_array_equal(np.asarray(back.image), np.asarray(noise(1)))


class Film:
    """A video of noise that can be read again, and notes from which frame on it was."""

    def __init__(self, length: int) -> None:
        self.length, self.read = length, list[int]()

    def frames(self, start: int) -> Iterator[VideoFrame]:
        self.read.append(start)
        for number in range(start, self.length):
            yield VideoFrame(number, number / 10, noise(number), 10.0)


def numbers(frames: Iterable[VideoFrame]) -> list[int]:
    """Of frames that are what they were."""
    found = []
    for frame in frames:
        np.testing.assert_array_equal(np.asarray(frame.image), np.asarray(noise(frame.index)))
        assert frame.time == frame.index / 10
        found.append(frame.index)
    return found


def test_of_what_waits_for_the_way_back_no_more_is_on_disk_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames 3 to 22, of which seven fit: the last ones wait, and those before them are read again, seven at a time."""
    with FrameSpool() as one:
        one.keep(next(Film(1).frames(0)))
        monkeypatch.setattr(spool, "ROOM", int(7.1 * one.size))
    film, most = Film(40), 0
    with Backlog(3, film.frames) as kept:
        for frame in itertools.islice(film.frames(3), 20):
            kept.keep(frame)
            most = max(most, kept.size)
        back = []
        for frame in kept.falling(20):
            back += numbers([frame])
            most = max(most, kept.size)
        assert back == list(range(20, 2, -1))
        assert most <= spool.ROOM * 8 / 7, "one more than fits, as that is known afterwards"
        assert film.read == [3, 12, 5, 3]
        assert numbers(kept.rising(18)) == list(range(3, 21))


def test_what_fits_or_cannot_be_read_again_waits_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(9)
    for room, again in ((2**31, film.frames), (1, None)):
        monkeypatch.setattr(spool, "ROOM", room)
        with Backlog(2, again) as kept:
            for frame in film.frames(2):
                kept.keep(frame)
            film.read.clear()
            assert numbers(kept.falling(6)) == [6, 5, 4, 3, 2] and numbers(kept.rising(4)) == [2, 3, 4, 5]
            assert len(kept) == 7 and not film.read


def test_frames_that_are_larger_than_those_at_the_end_keep_to_the_room_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones are of one colour, as where a film fades out: a hundredth of the bytes."""
    film = Film(40)

    def fading(start: int) -> Iterator[VideoFrame]:
        for frame in film.frames(start):
            plain = frame.index >= 30
            yield replace(frame, image=Image.new("RGB", frame.image.size)) if plain else frame

    with FrameSpool() as one:
        one.keep(next(Film(1).frames(0)))
        monkeypatch.setattr(spool, "ROOM", 7 * one.size)
        largest = one.size
    with Backlog(0, fading) as kept:
        for frame in fading(0):
            kept.keep(frame)
        back = []
        for frame in kept.falling(39):
            back.append(frame.index)
            assert kept.size <= spool.ROOM + 1.1 * largest
        assert back == list(range(39, -1, -1))


def test_half_of_what_is_free_is_room_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(9)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2))
    with Backlog(0, film.frames) as kept:
        for frame in film.frames(0):
            kept.keep(frame)
        assert len(kept) == 1 and numbers(kept.falling(8)) == list(range(8, -1, -1))


def test_what_can_be_read_while_it_is_read() -> None:
    Path("a.mp4").write_bytes(b"")
    with Path("a.mp4").open("rb") as file:
        for source, beside in (("a.mp4", True), (file, True), (io.BytesIO(), True), ("/dev/video0", False)):
            assert (clips.from_source(source).beside is not None) == beside, source
        assert clips.from_source(file).again


@pytest.mark.parametrize("kind", ["path", "file", "bytes"])
def test_two_readings_of_a_video_do_not_disturb_each_other(kind: str) -> None:
    save_film("a.mp4", map(noise, range(6), [32] * 6, [24] * 6))
    with Path("a.mp4").open("rb") as file:
        sources: dict[str, str | BinaryIO] = {"path": "a.mp4", "file": file, "bytes": io.BytesIO(file.read())}
        clip = clips.from_source(sources[kind])
        alone = [np.asarray(frame.image) for frame in clip.read(0)]
        assert len(alone) == 6 and clip.beside is not None
        one = clip.read(0)
        first = [next(one), next(one)]
        other = [*itertools.islice(clip.beside(1), 3)]
        pairs = [*enumerate([*first, *one]), *enumerate(other, 1)]
        assert [frame.index for _, frame in pairs] == [0, 1, 2, 3, 4, 5, 1, 2, 3]
        for number, frame in pairs:
            np.testing.assert_array_equal(np.asarray(frame.image), alone[number])


def sent(data: bytes) -> io.RawIOBase:
    """A pipe through which bytes come."""
    reading, writing = os.pipe()

    def send() -> None:
        with open(writing, "wb") as end:  # noqa: PTH123  a descriptor
            end.write(data)

    threading.Thread(target=send, daemon=True).start()
    return cast(io.RawIOBase, open(reading, "rb", buffering=0))  # noqa: PTH123


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi"])
def test_what_came_through_a_pipe_can_be_read_again_up_to_where_enough_was_kept(name: str) -> None:
    """Frames are those of the first reading, and nothing of the pipe is taken away from it."""
    save_film(name, map(noise, range(40), [64] * 40, [48] * 40))
    data = Path(name).read_bytes()
    alone = [np.asarray(frame.image) for frame in clips.from_source(name).read(0)]
    with sent(data) as pipe:
        source = pipes.rewound(pipes.read_head(pipe), pipe)
        clip = clips.from_source(source)
        assert not clip.again and clip.beside is None and clip.taped is not None
        with clip.taped() as taped:
            assert not taped.again and taped.beside is not None
            frames = taped.read(0)
            found = [*itertools.islice(frames, 9)]
            taped.enough()
            for start in (0, 5):
                again = [*itertools.islice(taped.beside(start), 9 - start)]
                assert [frame.index for frame in again] == [*range(start, 9)]
                for one, other in zip(found[start:], again, strict=True):
                    assert (one.time, one.rate) == (other.time, other.rate)
                    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
            found += frames
            assert [frame.index for frame in found] == [*range(40)]
            for frame, known in zip(found, alone, strict=True):
                np.testing.assert_array_equal(np.asarray(frame.image), known)


def test_a_tape_keeps_no_more_than_it_has_to() -> None:
    with Tape(io.BytesIO(bytes(range(100)))) as tape:
        assert tape.read(30) == bytes(range(30))
        tape.stop()
        assert tape.read(30) == bytes(range(30, 60))
        again = tape.again()
        assert (again.read(20), again.read(20), again.read(20)) == (bytes(range(20)), bytes(range(20, 30)), b"")
        assert tape.read() == bytes(range(60, 100)) and tape.again().read() == bytes(range(30))
        assert not again.seekable()


def test_a_tape_that_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    save_film("a.mkv", map(noise, range(9), [32] * 9, [24] * 9))
    monkeypatch.setattr(tape_module, "temporary_file", lambda: Path("/dev/full").open("w+b"))  # noqa: SIM115
    with Path("a.mkv").open("rb") as file, Tape(file) as tape:
        assert tape.read(5000) == Path("a.mkv").read_bytes()[:5000], "it is read all the same"
        with pytest.raises(OutputError, match="TMPDIR"):
            tape.check()
    with sent(Path("a.mkv").read_bytes()) as pipe:
        taped = clips.from_source(pipes.rewound(b"", pipe)).taped
        assert taped is not None
        with taped() as clip, pytest.raises(OutputError, match="TMPDIR"):
            next(clip.read(0))


def test_a_video_that_has_lost_frames_when_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROOM", 1)
    film = Film(9)
    with Backlog(0, film.frames) as kept:
        for frame in film.frames(0):
            kept.keep(frame)
        film.length = 4
        for again in (kept.falling(8), kept.rising(9)):
            with pytest.raises(ItemError, match=r"frame [47] was there and is not any more"):
                numbers(again)


def test_a_spool_that_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool() as spool:
        monkeypatch.setattr(spool, "_file", Path("/dev/full").open("wb"))  # noqa: SIM115
        with pytest.raises(OutputError, match="TMPDIR"):
            spool.append(b"x" * 100_000)


def test_a_file_is_kept_or_not_when_its_block_is_left() -> None:
    for keep in (False, True):
        with pytest.raises(KeyboardInterrupt), writing(Path(f"{keep}.bin"), keep=partial(bool, keep)) as file:
            file.write(b"so far")
            raise KeyboardInterrupt
    with pytest.raises(OutputError, match="no room for another"), writing(Path("whole.bin"), keep=lambda: True) as file:
        file.write(b"so far")
        raise OutputError("no room for another file")
    with pytest.raises(OutputError, match=r"cannot write full.bin \(No space left"), writing(Path("full.bin"), keep=lambda: True) as file:
        raise OSError(errno.ENOSPC, "No space left on device")
    assert sorted(path.name for path in Path().glob("*.bin")) == ["True.bin", "whole.bin"]
    assert Path("True.bin").read_bytes() == Path("whole.bin").read_bytes() == b"so far"


def test_names_that_step_aside() -> None:
    Path("out").mkdir()
    for name in ("a-x.png", "a-x-2.png"):
        (Path("out") / name).write_bytes(b"")
    naming = Naming("out", aside=True)
    assert [naming.path({"path": f"{name}.jpg"}, 0, "x", ".png").name for name in "aab"] == ["a-x-3.png", "a-x-4.png", "b-x.png"]
    with pytest.raises(ItemError, match="pass --overwrite"):
        Naming("out").path({"path": "a.jpg"}, 0, "x", ".png")
    assert Naming("out").path({"path": "a.jpg"}, 0, "", "") == Path("out/a")


def test_names_that_step_aside_go_on_beside_those_of_other_runs() -> None:
    Path("out").mkdir()
    for name in ("a-x.png", "a-x-2.png", "b-x.png", "c-x.png"):
        (Path("out") / name).write_bytes(b"")
    naming = Naming("out", aside=True)
    naming.go_on(["out/a-x-2.png", "out/c-x.png"], lambda path: True)  # the others are of another run
    naming.free(["out/a-x-2.png"])
    assert [naming.path({"path": f"{name}.jpg"}, 0, "x", ".png").name for name in "abc"] == ["a-x-2.png", "b-x-2.png", "c-x-2.png"]
    chosen = Naming("out")
    chosen.go_on([], lambda path: path.name == "b-x.png")
    assert chosen.path({"path": "b.jpg"}, 0, "x", ".png").name == "b-x.png"
    with pytest.raises(ItemError, match=r"c-x\.png exists"):
        chosen.path({"path": "c.jpg"}, 0, "x", ".png")


def test_a_pipe_from_a_file_is_read_like_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    with io.FileIO(str(tmp_path / "x")) as file:
        assert pipes.rewound(file.read(4), file).read() == b"0123456789"
    reading, writing_end = os.pipe()
    os.write(writing_end, b"0123456789")
    os.close(writing_end)
    with io.FileIO(reading) as pipe:
        source = pipes.rewound(pipe.read(4) or b"", pipe)
        assert not source.seekable()
        assert b"".join(iter(lambda: source.read(3), b"")) == b"0123456789"


def test_bytes_of_a_video_reach_the_classifier(classify: Run, bunny: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(bunny)) as source, av.open(str(tmp_path / "x.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    records = classify("--every", "20", stdin=(tmp_path / "x.mkv").read_bytes()).records
    assert [(record["path"], record["frame"]) for record in records] == [("-", 0), ("-", 20), ("-", 40)]


def test_devices_are_no_files_and_few_are_cameras(tmp_path: Path) -> None:
    assert not any(is_camera(name) for name in ("/dev/null", "/dev/zero", str(tmp_path), "nowhere", "n" * 5000, "a\0b"))
    with pytest.raises(ItemError, match="a device"):
        files.read("/dev/zero")


def test_a_camera_that_is_gone(tmp_path: Path) -> None:
    import av

    from visiontk.media.video import read_frames

    assert av.format.ContainerFormat("v4l2", "r").is_input, "what reads Linux's cameras comes with PyAV"
    path = tmp_path / "video0"
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(81, 200))
    except PermissionError:
        pytest.skip("only root may make a device")
    assert is_camera(str(path))
    with pytest.raises(ItemError, match="the camera cannot be opened") as caught:
        next(read_frames(str(path)))
    assert caught.value.kind == "unreadable"


def test_a_slash_at_the_end_of_out_means_a_folder() -> None:
    assert Naming("run-1.5/").path({"path": "a.png"}, 0, "overlay", ".png") == Path("run-1.5/a-overlay.png")
    assert Naming("run-1.5").path({"path": "a.png"}, 0, "overlay", ".png") == Path("run-1.png")
