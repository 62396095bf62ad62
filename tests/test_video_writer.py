"""What is written is decoded again: size, times, colours, and the sound in its place. And what happens when writing stops early."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.films import taken_ahead
from visiontk.artefacts import writing
from visiontk.errors import OutputError
from visiontk.media.video import VideoFrame, probe, read_frames
from visiontk.media.video_writer import VideoWriter

if TYPE_CHECKING:
    from tests.conftest import DiskOf

WIDTH, HEIGHT = 64, 48


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.new("RGB", (width, height), (6 * number,) * 3)


def number_of(image: Image.Image) -> int:
    return round(float(np.asarray(image).mean()) / 6)


def written(times: Sequence[float | None], fps: float = 25, *, jumps: bool = False, **options: Any) -> bytes:
    """A video of numbered pictures. ``jumps``: its times do, and the writer says so."""
    file = io.BytesIO()
    with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=fps, **options) as writer:
        for number, time in enumerate(times):
            writer.write(picture(number), time)
        assert (writer.warning is not None and "its times jump" in writer.warning) is jumps
    return file.getvalue()


def read(data: bytes) -> list[VideoFrame]:
    return list(read_frames(io.BytesIO(data)))


# --- pictures


def test_every_frame_in_order_and_on_time() -> None:
    data = written([None] * 40)
    got = read(data)
    assert [number_of(frame.image) for frame in got] == list(range(40))
    assert [frame.time for frame in got] == pytest.approx([number / 25 for number in range(40)], abs=1e-9)
    info = probe(io.BytesIO(data))
    assert (info.width, info.height, info.fps, info.frames_estimate) == (WIDTH, HEIGHT, 25, 40)
    assert info.duration == pytest.approx(40 / 25)
    with av.open(io.BytesIO(data), "r") as container:
        assert container.format.name.startswith("mov,mp4") and not container.streams.audio
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize("fps", [30000 / 1001, 24000 / 1001, 23.98, 60000 / 1001, 12.5, 0.5, 1000.0])
def test_frame_rates_are_kept_exactly(fps: float) -> None:
    data = written([None] * 20, fps)
    assert probe(io.BytesIO(data)).fps == pytest.approx(fps, rel=1e-12)
    assert [frame.time for frame in read(data)] == pytest.approx([number / fps for number in range(20)], rel=1e-9)


def test_pixels_that_are_not_square_stay_so() -> None:
    assert {frame.pixel_aspect for frame in read(written([None] * 3, pixel_aspect=16 / 11))} == {16 / 11}


def test_variable_frame_rates() -> None:
    times = [0, 0.04, 0.05, 0.5, 0.533333, 1.7, 1.701, 3.0]
    data = written(times)
    got = read(data)
    assert [frame.time for frame in got] == pytest.approx(times, abs=1 / 90_000)
    assert [number_of(frame.image) for frame in got] == list(range(8))
    assert probe(io.BytesIO(data)).duration == pytest.approx(3.04, abs=1e-4)  # players stop here: the last frame is shown too


def test_times_that_do_not_rise_are_moved() -> None:
    assert [frame.time for frame in read(written([0, 0.5, 0.5, 0.4, 0.6]))] == pytest.approx([0, 0.5, 0.5, 0.5, 0.6], abs=1e-4)
    assert [frame.time for frame in read(written([0, 0.5, None]))] == pytest.approx([0, 0.5, 0.54], abs=1e-4)


def test_times_that_jump_as_where_recordings_are_joined_go_on_without_the_jump() -> None:
    """Back to the start as in a file of two, and on by more than the 2**31 ticks that MP4 can tell, 6.6 hours."""
    again = [0, 0.04, 1.0, 1.04, 0, 0.04, 1.0]
    assert [frame.time for frame in read(written(again, jumps=True))] == pytest.approx([0, 0.04, 1.0, 1.04, 1.08, 1.12, 2.08], abs=1e-3)
    later = [0, 0.04, 27_000, 27_000.5]
    assert [frame.time for frame in read(written(later, jumps=True))] == pytest.approx([0, 0.04, 0.08, 0.58], abs=1e-3)


def test_one_frame_is_a_video() -> None:
    data = written([None])
    assert len(read(data)) == 1
    assert probe(io.BytesIO(data)).duration == pytest.approx(0.04)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (101, 51), (50, 75), (16, 16)])
def test_odd_sides_repeat_the_last_row_and_column(size: tuple[int, int]) -> None:
    width, height = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[...] = np.linspace(40, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    file = io.BytesIO()
    with VideoWriter(file, width=width, height=height, fps=25) as writer:
        writer.write(Image.fromarray(ramp))
    (frame,) = read(file.getvalue())
    assert frame.image.size == (width + width % 2, height + height % 2)
    wanted = np.pad(ramp, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(int)
    assert np.abs(np.asarray(frame.image).astype(int) - wanted).max() <= 12


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (230, 159, 0), (86, 180, 233)]


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_colours_are_those_of_the_pictures(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    side = size[0] // len(COLOURS)
    for number, colour in enumerate(COLOURS):
        image.paste(colour, (number * side, 0, (number + 1) * side, size[1]))
    file = io.BytesIO()
    with VideoWriter(file, width=size[0], height=size[1], fps=25) as writer:
        for _ in range(3):
            writer.write(image)
    shown = read(file.getvalue())[2].image
    found = np.array([shown.getpixel((number * side + side // 2, size[1] // 2)) for number in range(len(COLOURS))])
    assert np.abs(found - np.array(COLOURS)).max() <= 4
    # The file says so too, in both places where players look; H.273: 1 is BT.709, and limited range.
    with av.open(io.BytesIO(file.getvalue()), "r") as container:
        frame: Any = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
        plane = frame.to_ndarray()[0, side // 2]
    assert plane == pytest.approx(16 + 219 * 0.2126, abs=2)  # the luma of pure red
    assert b"colrnclx\0\1\0\1\0\1" in file.getvalue()


def test_frames_of_another_size_are_a_bug() -> None:
    writer = VideoWriter(io.BytesIO(), width=WIDTH, height=HEIGHT, fps=25)
    with writer, pytest.raises(ValueError, match="48x64 pixels in a video of 64x48"):
        writer.write(picture(1, HEIGHT, WIDTH))


@pytest.mark.parametrize(("width", "height", "fps"), [(0, 4, 25), (4, -1, 25), (4, 4, 0), (4, 4, -25), (4, 4, float("nan"))])
def test_impossible_videos(width: int, height: int, fps: float) -> None:
    with pytest.raises(ValueError, match="a video cannot have"):
        VideoWriter(io.BytesIO(), width=width, height=height, fps=fps)


def test_a_frame_in_hours_keeps_its_time() -> None:
    for times in ([None] * 3, [0.0, 3600.0, 7200.0]):
        assert [frame.time for frame in read(written(times, 1 / 3600))] == pytest.approx([0, 3600, 7200], abs=1e-3)
    assert [frame.time for frame in read(written([0.0, 1.5], 1e-9))] == [0, 1.5]


def test_sizes_that_h264_cannot_hold() -> None:
    with pytest.raises(OutputError, match=r"30000x48 pixels .*; make it smaller"):
        VideoWriter(io.BytesIO(), width=30_000, height=48, fps=25)


# --- sound


def clip(
    name: str, codec: str, *, seconds: float = 3, sound: float | None = None, picture_at: float = 0, sound_at: float = 0, rate: int = 48_000
) -> str:
    """A video that is white for 0.2 s, and sounds meanwhile, at 1.6 s of its own clock."""
    with av.open(name, "w") as container:
        video = container.add_stream("mpeg4" if name.endswith("avi") else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = container.add_stream(codec, rate=rate)
        audio.layout = "stereo"
        for index in range(round(picture_at * 25), round((picture_at + seconds) * 25)):
            grey = 255 * (1.6 <= index / 25 < 1.8)
            frame: Any = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        time = sound_at + np.arange(round((sound or seconds) * rate)) / rate
        wave = np.where((time >= 1.6) & (time < 1.8), 0.5 * np.sin(2 * np.pi * 880 * time), 0).astype(np.float32)
        for start in range(0, len(wave), 960):
            samples: Any = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 960]] * 2), format="fltp", layout="stereo")
            samples.sample_rate, samples.time_base, samples.pts = rate, Fraction(1, rate), start + round(sound_at * rate)
            container.mux(audio.encode(samples))
        container.mux(audio.encode())
    return name


def copied(name: str, *, skip: float = 0, until: float = 99, **options: Any) -> bytes:
    """The clip written again, from ``skip`` to ``until`` seconds of its clock."""
    frames = [frame for frame in read_frames(name) if skip <= frame.time < until]
    file = io.BytesIO()
    with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=name, **options) as writer:
        for frame in frames:
            writer.write(frame.image, frame.time - frames[0].time)
    assert writer.warning is None
    return file.getvalue()


def flash(data: bytes) -> tuple[float, float]:
    """From when to when the picture is white."""
    white = [frame.time for frame in read(data) if np.asarray(frame.image).mean() > 128]
    return white[0], white[-1] + 0.04


def beep(data: bytes) -> tuple[float, float]:
    """From when to when there is sound."""
    loud: list[npt.NDArray[np.float64]] = []
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(audio=0):
            wave = frame.to_ndarray().astype(np.float64)
            wave /= 32768 if frame.format.name.startswith("s16") else 1
            wave = wave[0] if frame.format.is_planar else wave[0, :: len(frame.layout.channels)]
            assert frame.time is not None
            loud.append(frame.time + np.flatnonzero(np.abs(wave) > 0.1) / frame.sample_rate)
    times = np.concatenate(loud)
    return float(times.min()), float(times.max())


def codec_of(data: bytes) -> str:
    with av.open(io.BytesIO(data), "r") as container:
        return container.streams.audio[0].codec_context.codec.canonical_name


def sound_packets(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def length_of(data: bytes, kind: str) -> float:
    with av.open(io.BytesIO(data), "r") as container:
        (stream,) = [stream for stream in container.streams if stream.type == kind]
        assert stream.duration is not None and stream.time_base is not None
        return float(stream.duration * stream.time_base)


@pytest.mark.parametrize(
    ("name", "codec", "becomes"),
    [
        ("a.mp4", "aac", "aac"),
        ("a.mkv", "aac", "aac"),
        ("a.ts", "aac", "aac"),
        ("a.mkv", "libopus", "opus"),
        ("a.mkv", "flac", "flac"),
        ("a.mkv", "pcm_s16le", "aac"),
        ("a.avi", "pcm_s16le", "aac"),
    ],
)
def test_sound_is_kept_and_in_sync(name: str, codec: str, becomes: str) -> None:
    data = copied(clip(name, codec))
    assert codec_of(data) == becomes
    assert flash(data) == pytest.approx((1.6, 1.8), abs=0.001)
    assert beep(data) == pytest.approx((1.6, 1.8), abs=0.006)
    assert length_of(data, "video") == pytest.approx(3) and length_of(data, "audio") == pytest.approx(3, abs=0.03)


def test_packets_that_mp4_takes_are_copied_as_they_are() -> None:
    source = clip("a.mkv", "aac")
    assert sound_packets(copied(source)) == sound_packets(Path(source).read_bytes())


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_that_starts_before_the_picture(codec: str) -> None:
    source = clip("a.mkv", codec, picture_at=1)
    data = copied(source)
    assert read(data)[0].time == pytest.approx(1)
    assert flash(data) == pytest.approx((1.6, 1.8), abs=0.001)
    assert beep(data) == pytest.approx((1.6, 1.8), abs=0.006)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_that_starts_after_the_picture(codec: str) -> None:
    data = copied(clip("a.mkv", codec, sound=2, sound_at=1))
    assert read(data)[0].time == 0
    assert flash(data) == pytest.approx((1.6, 1.8), abs=0.001)
    assert beep(data) == pytest.approx((1.6, 1.8), abs=0.006)


def test_sound_that_outlasts_the_picture_is_kept() -> None:
    data = copied(clip("a.mp4", "aac", seconds=2, sound=3.5))
    assert length_of(data, "video") == pytest.approx(2) and length_of(data, "audio") == pytest.approx(3.5, abs=0.03)
    assert beep(data) == pytest.approx((1.6, 1.8), abs=0.006)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le"), ("a.ts", "aac")])
def test_a_part_of_a_video_has_that_part_of_the_sound(name: str, codec: str) -> None:
    source = clip(name, codec)
    start = next(frame.time for frame in read_frames(source) if frame.index == 25)
    data = copied(source, skip=start - 0.01, until=start + 0.99, audio_start=start, audio_lead_in=False, audio_outlasts=False)
    assert flash(data) == pytest.approx((0.6, 0.8), abs=0.001)
    assert beep(data) == pytest.approx((0.6, 0.8), abs=0.006)
    assert length_of(data, "video") == pytest.approx(1) and length_of(data, "audio") == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.ts", "aac")])
def test_sound_before_the_first_frame_that_can_be_decoded(name: str, codec: str) -> None:
    """As of a recording that begins in the middle of a group of pictures: the file says that its picture starts sooner."""
    source = clip(name, codec)
    start = next(frame.time for frame in read_frames(source) if frame.index == 10)
    data = copied(source, skip=start - 0.01, audio_start=start)
    assert read(data)[0].time == pytest.approx(0.4, abs=0.03)
    assert flash(data)[0] == pytest.approx(beep(data)[0], abs=0.006) and flash(data)[0] == pytest.approx(1.6, abs=0.03)


def test_the_last_frame_is_shown_for_as_long_as_it_was() -> None:
    file = io.BytesIO()
    with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=10) as writer:
        for number in range(3):
            writer.write(picture(number), 2.0 * number, 2.0)
    assert [frame.time for frame in read(file.getvalue())] == [0, 2, 4]
    assert probe(io.BytesIO(file.getvalue())).duration == pytest.approx(6)


def test_sound_that_does_not_outlast_a_picture_of_varying_rate() -> None:
    file = io.BytesIO()
    with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=clip("a.mkv", "pcm_s16le"), audio_outlasts=False) as writer:
        for number, time in enumerate([0, 0.5, 1.0, 2.0, 2.04]):
            writer.write(picture(number), time)
    assert length_of(file.getvalue(), "video") == pytest.approx(2.08)
    assert length_of(file.getvalue(), "audio") == pytest.approx(2.08, abs=0.03)


def test_rates_that_aac_lacks() -> None:
    source = clip("a.avi", "pcm_s16le", rate=37_800)
    data = copied(source)
    assert beep(data) == pytest.approx((1.6, 1.8), abs=0.006)


def test_a_video_without_sound(bunny: Path) -> None:
    data = written([None] * 5, audio_from=str(bunny))
    with av.open(io.BytesIO(data), "r") as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_sound_that_cannot_be_read_does_not_cost_the_picture() -> None:
    Path("text.mp4").write_text("no video")
    for name in ("text.mp4", "nothing.mp4"):
        file = io.BytesIO()
        with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=name) as writer:
            writer.write(picture(3))
        assert f"the sound of {name} is missing" in str(writer.warning)
        assert len(read(file.getvalue())) == 1


def test_damaged_sound_does_not_cost_the_picture() -> None:
    source = Path(clip("a.mkv", "flac"))
    data = bytearray(source.read_bytes())
    hits = np.random.default_rng(1).integers(2000, len(data), 300)
    for place in hits:
        data[place] ^= 0xFF
    source.write_bytes(data)
    file = io.BytesIO()
    with VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=str(source)) as writer:
        for number in range(50):
            writer.write(picture(number))
    assert len(read(file.getvalue())) == 50


# --- ends that come early


@pytest.mark.parametrize("codec", [None, "aac", "pcm_s16le"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_written_before_an_exception_can_be_played(error: type[BaseException], codec: str | None) -> None:
    source = clip("a.mkv", codec) if codec else None
    file = io.BytesIO()
    with pytest.raises(error), VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=source) as writer:
        for number in range(42):
            writer.write(picture(number))
        raise error
    got = read(file.getvalue())
    assert [number_of(frame.image) for frame in got] == list(range(42))
    if codec:
        assert length_of(file.getvalue(), "audio") == pytest.approx(1.68, abs=0.03)  # no longer than the picture
        assert beep(file.getvalue())[0] == pytest.approx(1.6, abs=0.006)


def test_no_frame_at_all() -> None:
    assert written([], audio_from=clip("a.mp4", "aac")) == b""
    with pytest.raises(RuntimeError), VideoWriter(io.BytesIO(), width=4, height=4, fps=25):
        raise RuntimeError


@pytest.mark.parametrize("size", [0, 1000, 40_000, 300_000])
@pytest.mark.parametrize("sound", [False, True])
def test_a_full_disk(size: int, sound: bool, disk_of: DiskOf, capfd: pytest.CaptureFixture[str]) -> None:
    source = clip("a.mp4", "aac") if sound else None
    noise = np.random.default_rng(0).integers(0, 256, (30, 120, 160, 3), np.uint8)
    with (
        pytest.raises(OutputError, match=r"cannot write .*File too large.*; make room"),
        disk_of(size),
        writing(Path("out/x.mp4")) as file,
        VideoWriter(file, width=160, height=120, fps=25, audio_from=source) as writer,
    ):
        for pixels in noise:
            writer.write(Image.fromarray(pixels))
    assert list(Path("out").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@taken_ahead
@pytest.mark.parametrize("size", [300_000, 700_000, 1_500_000])
@pytest.mark.parametrize("sound", [False, True])
def test_a_disk_that_fills_leaves_a_film_of_all_frames_before(size: int, sound: bool, disk_of: DiskOf) -> None:
    source = clip("a.mp4", "aac") if sound else None
    noise = np.random.default_rng(0).integers(0, 256, (600, 60, 80, 3), np.uint8)
    taken = 0
    with (
        disk_of(size),
        pytest.raises(OutputError, match=r"cannot write .*File too large.*; make room"),
        Path("x.mp4").open("wb") as file,
        VideoWriter(file, width=80, height=60, fps=25, audio_from=source) as writer,
    ):
        for pixels in noise:
            writer.write(Image.fromarray(pixels))
            taken += 1
    assert writer.finished and 1 < taken < len(noise)
    made = Path("x.mp4").read_bytes()
    frames = read(made)
    assert taken <= len(frames) <= taken + sound, "of the last one the sound may have had no room"
    assert len(made) <= size and (len(made) > size / 4 or size < 500_000)
    assert probe("x.mp4").frames_estimate == len(frames), "the index is there"
    last, wanted = (np.asarray(image.convert("L"), float) for image in (frames[-1].image, Image.fromarray(noise[len(frames) - 1])))
    assert np.abs(last - wanted).mean() < 15, "two of these pictures are 50 apart"
    assert made.count(bytes(4096)) == 0, "nothing that was held ahead is left in it"


@taken_ahead
def test_a_disk_that_fills_while_sound_goes_on_behind_the_picture(disk_of: DiskOf) -> None:
    source = clip("a.mp4", "aac", seconds=1, sound=120)
    with (
        disk_of(200_000),
        pytest.raises(OutputError, match=r"cannot write .*File too large.*; make room"),
        Path("x.mp4").open("wb") as file,
        VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25, audio_from=source) as writer,
    ):
        for number in range(25):
            writer.write(picture(number))
    assert writer.finished
    made = Path("x.mp4").read_bytes()
    assert [number_of(frame.image) for frame in read(made)] == list(range(25))
    assert 10 < length_of(made, "audio") < 110


@taken_ahead
def test_a_large_first_frame_asks_for_no_more_room_than_there_has_to_be(disk_of: DiskOf) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8))
    images = [noise, *[Image.new("RGB", noise.size, (90, 90, 90))] * 60]

    def save(name: str) -> int:
        with Path(name).open("wb") as file, VideoWriter(file, width=320, height=240, fps=25) as writer:
            for image in images:
                writer.write(image)
        return Path(name).stat().st_size

    whole = save("a.mp4")
    assert whole > 40_000
    with disk_of(3 * whole + 96 * 1024):
        assert save("b.mp4") == pytest.approx(whole, rel=0.05)


@taken_ahead
def test_what_is_held_for_the_end_is_given_back() -> None:
    with Path("x.mp4").open("wb") as file, VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25) as writer:
        writer.write(picture(1))
        assert Path("x.mp4").stat().st_size > 2**20
        writer.write(picture(2))
    made = Path("x.mp4").read_bytes()
    assert len(made) < 10_000 and [number_of(frame.image) for frame in read(made)] == [1, 2]


@taken_ahead
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP])
def test_room_that_was_only_taken_in_part_is_given_back_too(monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    """Some file systems lengthen the file before they say that there is no room; where there never was any, nothing is asked of them."""

    def in_part(descriptor: int, offset: int, length: int) -> None:
        os.ftruncate(descriptor, offset + length // 2)
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", in_part)
    with Path("x.mp4").open("wb") as file, VideoWriter(file, width=WIDTH, height=HEIGHT, fps=25) as writer:
        for number in range(3):
            writer.write(picture(number))
    made = Path("x.mp4").read_bytes()
    assert len(made) < 10_000 and len(read(made)) == 3


def test_a_full_device_after_the_last_frame() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OutputError, match="No space left on device"),
        VideoWriter(full, width=WIDTH, height=HEIGHT, fps=25) as writer,
    ):
        writer.write(picture(1))


def test_an_exception_on_a_full_device_stays_the_one_that_is_seen() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(KeyboardInterrupt),
        VideoWriter(full, width=WIDTH, height=HEIGHT, fps=25) as writer,
    ):
        writer.write(picture(1))
        raise KeyboardInterrupt
