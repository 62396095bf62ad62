"""Videos of given pictures, as the tests want them: nothing is lost, unless it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
SOUND_RATE = 16_000
_SAMPLES = 1600  # of a frame of sound

taken_ahead = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is taken ahead where there is fallocate")


def save_film(
    path: str | Path,
    pictures: Iterable[Image.Image],
    *,
    times: Sequence[int] | None = None,
    options: dict[str, str] = LOSSLESS,
    pix_fmt: str = "yuv444p",
    rotation: int = 0,
    sound: np.ndarray[Any, Any] | None = None,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
) -> str:
    """H.264 of 10 frames a second.

    Args:
        times: of the frames, in tenths of a second.
        options: of the encoder.
        rotation: degrees anticlockwise by which a player turns it.
        sound: float32 samples of one channel from -1 to 1, `SOUND_RATE` a second, from the start on.
    """
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream: Any = container.add_stream("libx264", rate=10, options=options)
        track: Any = container.add_stream("aac", rate=SOUND_RATE) if sound is not None else None
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = *picture.size, pix_fmt
                if rotation:
                    stream.set_display_rotation(rotation)
            frame: Any = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            frame.pts = times[number] if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for begin in range(0, len(sound), _SAMPLES):
                samples: Any = av.AudioFrame.from_ndarray(sound[None, begin : begin + _SAMPLES], format="fltp", layout="mono")
                samples.rate, samples.pts = SOUND_RATE, begin
                container.mux(track.encode(samples))
            container.mux(track.encode())
    return str(path)
