"""The video decoder: which frames come, when, which way up and in what colour; and what happens to damaged files."""

from __future__ import annotations

import gc
import io
import itertools
import threading
import tracemalloc
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from visiontk.errors import ItemError, UsageError
from visiontk.media import pipes, sniff
from visiontk.media.images import looks_like_image
from visiontk.media.sniff import looks_like_video as sniffed
from visiontk.media.video import VIDEO_SUFFIXES, VideoFrame, looks_like_video, probe, read_frames

LOSSLESS = {"libx264": {"qp": "0", "preset": "ultrafast"}, "mpeg4": {"qmin": "1", "qmax": "1"}, "ffv1": {}}


def picture(number: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """RGB: black but for the number in the grey of the whole lower half, and a red, a green and a blue block in the upper corners."""
    array = np.zeros((height, width, 3), np.uint8)
    array[height // 2 :] = 5 * number
    array[: height // 2, : width // 4, 0] = 255
    array[: height // 2, width // 4 : width // 2, 1] = 255
    array[: height // 2, -(width // 4) :, 2] = 255
    return array


def number_in(image: Any) -> int:
    array = np.asarray(image)
    return round(float(array[array.shape[0] * 3 // 4, array.shape[1] // 2].mean()) / 5)


def encode(
    pictures: Iterable[npt.NDArray[np.uint8]],
    form: str = "mp4",
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rotation: int = 0,
    hflip: bool = False,
    aspect: Fraction | None = None,
    path: Path | None = None,
    flags: str = "",
) -> bytes:
    target: Any = str(path) if path else io.BytesIO()
    with av.open(target, "w", format=form, options={"movflags": flags} if flags else {}) as container:
        stream: Any = container.add_stream(codec, rate=25, options=LOSSLESS.get(codec, {}))
        stream.pix_fmt = pix_fmt
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.time_base = time_base
        if rotation or hflip:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a display matrix")
            stream.set_display_rotation(rotation, hflip=hflip)
        for index, array in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = array.shape[:2]
            frame: Any = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = times[index] if times else index, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes() if path else target.getvalue()


def clip(count: int = 40, **options: Any) -> bytes:
    return encode((picture(number) for number in range(count)), **options)


def read(data: bytes, **options: Any) -> list[VideoFrame]:
    return list(read_frames(io.BytesIO(data), **options))


def read_broken(data: bytes, **options: Any) -> tuple[list[VideoFrame], ItemError]:
    got = []
    with pytest.raises(ItemError) as caught:
        for frame in read_frames(io.BytesIO(data), **options):
            got.append(frame)  # noqa: PERF402 - what came before the error matters
    return got, caught.value


KINDS = [("mp4", "libx264"), ("mp4", "mpeg4"), ("matroska", "ffv1"), ("avi", "mpeg4"), ("mpegts", "libx264"), ("mov", "libx264")]


@pytest.mark.parametrize(("form", "codec"), KINDS)
def test_all_frames_in_order(form: str, codec: str) -> None:
    pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
    data = clip(form=form, codec=codec, pix_fmt=pix_fmt)
    got = read(data)
    assert [frame.index for frame in got] == list(range(40))
    assert [number_in(frame.image) for frame in got] == list(range(40))
    assert {frame.image.size for frame in got} == {(64, 48)}
    assert {frame.image.mode for frame in got} == {"RGB"}
    assert np.diff([frame.time for frame in got]) == pytest.approx(np.full(39, 0.04), abs=1e-6)
    if codec == "ffv1":
        assert np.array_equal(np.asarray(got[7].image), picture(7))
    assert looks_like_video(data[:256])
    assert not looks_like_image(data[:32])


def test_colours() -> None:
    image = np.asarray(read(clip(2))[1].image).astype(int)
    for place, wanted in (((10, 8), (255, 0, 0)), ((10, 24), (0, 255, 0)), ((10, 56), (0, 0, 255)), ((40, 30), (5, 5, 5))):
        assert np.abs(image[place] - wanted).max() <= 6


def flat(space: int, full: int) -> bytes:
    """Two frames of Y, Cb, Cr = 81, 100, 180, tagged with a matrix (H.273, table 4) and a range (1 limited, 2 full)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream("libx264", rate=25, options=LOSSLESS["libx264"])
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = space, full
        for _ in range(2):
            frame: Any = av.VideoFrame(64, 48, "yuv420p")
            for plane, value in zip(frame.planes, (81, 100, 180), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.colorspace, frame.color_range = space, full
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(("space", "red", "blue"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114)], ids=["bt709", "bt601"])
@pytest.mark.parametrize("full", [1, 2], ids=["limited", "full"])
def test_matrix_and_range_of_the_file_are_honoured(space: int, red: float, blue: float, full: int) -> None:
    y, cb, cr = (81 / 255, -28 / 255, 52 / 255) if full == 2 else ((81 - 16) / 219, -28 / 224, 52 / 224)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    wanted = 255 * np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])
    got = read(flat(space, full))[0].image.getpixel((30, 20))
    assert np.abs(np.array(got) - wanted).max() <= 3


@pytest.mark.parametrize(("form", "codec", "pix_fmt"), [("matroska", "libx264", "yuv420p10le"), ("matroska", "ffv1", "yuv444p10le")])
def test_ten_bits(form: str, codec: str, pix_fmt: str) -> None:
    got = read(clip(10, form=form, codec=codec, pix_fmt=pix_fmt))
    assert [number_in(frame.image) for frame in got] == list(range(10))
    assert np.abs(np.asarray(got[0].image)[10, 8].astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("size", [(33, 17), (65, 49), (50, 30)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    width, height = size
    pictures = [picture(number, width, height) for number in range(3)]
    got = read(encode(pictures, "matroska", "ffv1", pix_fmt="bgr0"))
    assert [frame.image.size for frame in got] == [size] * 3
    assert all(np.array_equal(np.asarray(frame.image), wanted) for frame, wanted in zip(got, pictures, strict=True))
    data = encode(pictures, "matroska", "libx264", pix_fmt="yuv444p")
    assert probe(io.BytesIO(data)).width == width
    assert np.abs(np.asarray(read(data)[2].image).astype(int) - pictures[2]).max() <= 6


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation(rotation: int, hflip: bool) -> None:
    data = clip(3, rotation=rotation, hflip=hflip)
    # Degrees anticlockwise; the mirroring is of what the rotation gives (libavutil/display.c: the column of the new x changes its sign).
    turned = np.rot90(picture(2), rotation // 90)
    wanted = turned[:, ::-1] if hflip else turned
    image = read(data)[2].image
    assert np.asarray(image).shape == wanted.shape
    middle = (np.asarray(image).astype(int) - wanted)[4:-4, 4:-4]
    assert np.abs(middle).mean() < 6
    info = probe(io.BytesIO(data))
    assert (info.width, info.height) == image.size


VARIABLE = [0, 1, 2, 10, 11, 30, 31, 32, 60, 100]  # in units of 10 ms


def test_variable_frame_rate() -> None:
    pictures = (picture(number) for number in range(len(VARIABLE)))
    data = encode(pictures, "matroska", "ffv1", pix_fmt="bgr0", times=VARIABLE, time_base=Fraction(1, 100))
    assert [frame.time for frame in read(data)] == pytest.approx([time / 100 for time in VARIABLE], abs=6e-4)
    # Multiples of 0.1 s: 0; 0.1 (frame 3); 0.2 and 0.3 (frame 5); 0.4, 0.5, 0.6 (frame 8); 0.7 to 1.0 (frame 9).
    assert [frame.index for frame in read(data, fps=10)] == [0, 3, 5, 8, 9]
    assert [frame.index for frame in read(data, fps=2)] == [0, 8, 9]


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts", "avi"])
def test_sampling(form: str) -> None:
    data = clip(form=form, codec="mpeg4")
    assert [frame.index for frame in read(data, every=7)] == [0, 7, 14, 21, 28, 35]
    assert [number_in(frame.image) for frame in read(data, every=13)] == [0, 13, 26, 39]
    assert [frame.index for frame in read(data, fps=25)] == list(range(40))
    assert [frame.index for frame in read(data, fps=1000)] == list(range(40))
    assert [frame.index for frame in read(data, fps=5)] == list(range(0, 40, 5))
    assert [frame.index for frame in read(data, fps=10)] == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38]
    assert [frame.index for frame in read(data, fps=1)] == [0, 25]
    assert [frame.index for frame in read(data, every=10, start_index=11)] == [20, 30]
    assert [frame.index for frame in read(data, fps=5, start_index=11)] == [15, 20, 25, 30, 35]
    assert [frame.index for frame in read(data, start_index=38)] == [38, 39]
    assert read(data, start_index=40) == []


def test_rates_that_milliseconds_cannot_hold() -> None:
    pictures = (picture(number % 50) for number in range(90))
    data = encode(pictures, "matroska", "ffv1", pix_fmt="bgr0", time_base=Fraction(1001, 30000))
    assert [frame.index for frame in read(data, fps=30000 / 1001)] == list(range(90))
    assert [frame.index for frame in read(data, fps=10000 / 1001)] == list(range(0, 90, 3))


def test_frames_without_times_get_an_estimate() -> None:
    """A bare H.264 stream holds no times at all."""
    got = read(clip(10, form="h264"))
    assert [number_in(frame.image) for frame in got] == list(range(10))
    assert np.diff([frame.time for frame in got]) == pytest.approx(np.full(9, 0.04), abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"every": 2, "fps": 1.0}, {"every": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"fps": -1.0}, {"start_index": -1}]
)
def test_bad_arguments_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_frames("does-not-matter.mp4", **options)


def test_probe() -> None:
    info = probe(io.BytesIO(clip()))
    assert (info.width, info.height, info.fps, info.frames_estimate) == (64, 48, 25.0, 40)
    assert info.duration == pytest.approx(1.6)
    info = probe(io.BytesIO(clip(form="matroska")))
    assert (info.fps, info.frames_estimate) == (25.0, 40)


def test_paths_are_only_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b.mp4", "http:x.mp4", "concat:a|b.mp4", "\N{SNAKE}\n'\".mp4", "noend"):
        clip(3, path=tmp_path / name)
        assert len(list(read_frames(name))) == 3
    for bad, kind in (("missing.mp4", "missing"), (str(tmp_path), "unreadable"), ("a\0b.mp4", "unreadable")):
        with pytest.raises(ItemError) as caught:
            probe(bad)
        assert caught.value.kind == kind


def test_playlists_open_nothing(tmp_path: Path) -> None:
    clip(3, path=tmp_path / "real.mp4")
    segment = tmp_path / "segment.ts"
    segment.write_bytes(clip(3, form="mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile '{tmp_path}/real.mp4'\n"):
        got, error = read_broken(text.encode())
        assert (got, error.kind) == ([], "broken")


@pytest.mark.parametrize(("rotation", "shown"), [(0, 16 / 11), (90, 11 / 16), (180, 16 / 11), (270, 11 / 16)])
def test_pixels_that_are_not_square(rotation: int, shown: float) -> None:
    assert [frame.pixel_aspect for frame in read(clip(2, aspect=Fraction(16, 11), rotation=rotation))] == pytest.approx([shown] * 2)
    assert {frame.pixel_aspect for frame in read(clip(3, rotation=rotation))} == {1}


class _Drips(io.RawIOBase):
    """A pipe that gives a byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def read(self, size: int = -1) -> bytes:
        part, self.rest = self.rest[:1], self.rest[1:]
        return part


@pytest.mark.parametrize("packets", ["188", "192"])
def test_transport_streams_are_told_from_names_that_begin_with_a_g(packets: str, tmp_path: Path) -> None:
    """The mark of a packet is a "G": the second packet's tells, and a line that is there is not waited for."""
    data = clip(3, form="mpegts")
    if packets == "192":  # of a camcorder: four bytes of time before each packet
        data = b"".join(bytes(4) + data[at : at + 188] for at in range(0, len(data), 188))
    assert looks_like_video(pipes.read_head(_Drips(data)))
    (tmp_path / "no-suffix").write_bytes(data)
    assert sniff.is_video_file(str(tmp_path / "no-suffix"))
    for names in (b"Gull.jpg\nGoose.jpg\n", b"all/G.jpg\n", b"Gull.jpg\n" * 40):
        pipe = _Drips(names)
        head = pipes.read_head(pipe)
        assert head == names[: names.index(b"\n") + 1] and not looks_like_video(head)
    assert not looks_like_video(pipes.read_head(_Drips(b"Gull.jpg\0" * 40)))
    null_packets = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 2
    assert looks_like_video(pipes.read_head(_Drips(null_packets))), "no zero among them"


@pytest.mark.parametrize("data", [b"", b"text\n", b"\0" * 5000, b"\0\0\0\x20ftypisom" + b"\0" * 100, b"\x1a\x45\xdf\xa3" + b"\xff" * 90])
def test_what_is_no_video_is_broken(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    got, error = read_broken(data)
    assert (got, error.kind) == ([], "broken")
    with pytest.raises(ItemError):
        probe(io.BytesIO(data))
    assert capfd.readouterr().err == ""


def test_sound_alone_is_no_video() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, error = read_broken(buffer.getvalue())
    assert "no video" in error.message


CUTTABLE = [
    ("mp4", "mpeg4", "faststart"),
    ("mp4", "mpeg4", "frag_keyframe+empty_moov"),
    ("matroska", "libx264", ""),
    ("matroska", "mpeg4", ""),
    ("avi", "mpeg4", ""),
    ("mpegts", "mpeg4", ""),
]


@pytest.mark.parametrize(("form", "codec", "flags"), CUTTABLE)
def test_cut_off_video_gives_its_frames_then_fails(
    form: str, codec: str, flags: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(40)]
    data = encode(pictures, form, codec, flags=flags, path=tmp_path / "video")
    whole = read(data)
    assert len(whole) == 40
    got, error = read_broken(data[: len(data) * 6 // 10 + 5])
    assert error.kind == "broken"
    assert 8 < len(got) < 40
    good = len(got) - (form == "mpegts")  # of a transport stream the last frame is decoded though a part of it is missing
    assert all(np.array_equal(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(got[:good], whole[:good], strict=True))
    assert capfd.readouterr().err == ""


def test_mp4_without_its_index_is_broken() -> None:
    data = clip()
    got, error = read_broken(data[: len(data) // 2])
    assert (got, error.kind) == ([], "broken")


@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("mpegts", "libx264")])
def test_damage_in_the_middle_is_reported_after_the_frames(form: str, codec: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    pictures = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(40))
    data = bytearray(encode(pictures, form, codec))
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    got, error = read_broken(bytes(data))
    assert error.kind == "broken"
    assert 10 < len(got) < 40
    assert capfd.readouterr().err == ""


def test_mutated_videos_end_well(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(7)
    whole = [clip(6, form="mp4"), clip(6, form="matroska"), clip(6, form="avi", codec="mpeg4"), clip(6, form="mpegts", codec="mpeg4")]
    outcomes = {"read": 0, "broken": 0, "too_large": 0}
    for number in range(200):
        data = bytearray(whole[number % len(whole)])
        for place in rng.integers(0, len(data), int(rng.integers(1, 30))):
            data[place] = int(rng.integers(0, 256))
        try:
            read(bytes(data))
            outcomes["read"] += 1
        except ItemError as error:
            outcomes[error.kind] += 1
    assert min(outcomes["read"], outcomes["broken"]) > 10
    assert capfd.readouterr().err == ""


def test_memory_does_not_grow_and_breaking_off_is_clean() -> None:
    data = encode((picture(number % 50, 320, 240) for number in range(150)), codec="mpeg4")
    threads = threading.active_count()
    tracemalloc.start()
    for frame in read_frames(io.BytesIO(data)):
        del frame
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 320 * 240 * 3
    reader = iter(read_frames(io.BytesIO(data)))
    assert next(reader).index == 0
    del reader
    assert threading.active_count() == threads


def test_frames_leave_nothing_behind_that_waits_for_the_garbage_collector() -> None:
    """A decoded picture of 1080p has 3 MB and its RGB 6: held in circles, hundreds of them would pile up."""
    data = io.BytesIO(encode([picture(number) for number in range(40)], rotation=90))
    system = Path("/proc/self/task")
    frames = read_frames(data)
    next(frames)
    gc.collect()
    gc.disable()
    try:
        begun = len(list(system.iterdir())) if system.exists() else 0
        assert sum(1 for _ in itertools.islice(frames, 30)) == 30
        assert not system.exists() or len(list(system.iterdir())) <= begun + 1, "no threads for each frame"
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [type(found).__name__ for found in gc.garbage if type(found).__module__.startswith("av.")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        frames.close()  # type: ignore[attr-defined]


def test_an_open_file_is_read_from_its_start_and_stays_open(tmp_path: Path) -> None:
    clip(3, path=tmp_path / "a.mp4")
    with (tmp_path / "a.mp4").open("rb") as file:
        file.seek(100)
        assert probe(file).frames_estimate == 3
        assert len(list(read_frames(file))) == 3
        assert len(list(read_frames(file))) == 3
        assert not file.closed


def test_a_stream_that_cannot_seek() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._inner.read(size)

    pipe: Any = Pipe(clip(5, form="matroska"))
    assert [frame.index for frame in read_frames(pipe)] == list(range(5))


def test_sniffing() -> None:
    assert sniffed is looks_like_video
    for head in (b"OggS\0\x02" + b"\0" * 22 + b"\x80theora", b"FLV\x01\x05", b"\0\0\0\x14ftypqt  ", b"\0\0\0\x08wide"):
        assert looks_like_video(head)
    for head in (
        b"",
        b"GIF89a",
        b"G" * 100,
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\x18ftypavif",
        b"\0\0\0\x18ftypM4A ",
        b"OggS" + b"\0" * 40 + b"vorbis",
    ):
        assert not looks_like_video(head)
    assert ".mp4" in VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)
