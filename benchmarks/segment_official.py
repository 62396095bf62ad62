"""SAM 2's own video predictor on a folder of frames.

As a program, for its peak memory: ``python -m benchmarks.segment_official FOLDER``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visiontk.adapters.segment import locate
from visiontk.adapters.segment_weights import POSTPROCESSING, find_config, read_config, read_weights


def predictor(model: str, device: str) -> Any:
    """A ``SAM2VideoPredictor`` with the settings that visiontk runs with: what `build_sam2_video_predictor` sets, but for filling holes
    and for what the configuration says itself."""
    from hydra.utils import instantiate

    location = locate(model)
    config = {**read_config(find_config(location.weights)), "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor"}
    extra = {**POSTPROCESSING, **(config.get("sam_mask_decoder_extra_args") or {})}
    config |= {"sam_mask_decoder_extra_args": extra, "binarize_mask_from_pts_for_mem_enc": True, "fill_hole_area": 0}
    config |= {"add_all_frames_to_correct_as_cond": True, "compile_image_encoder": False}
    made = instantiate(config)
    made.load_state_dict(read_weights(location.weights))
    return made.to(device).eval()


def track(made: Any, folder: Path, points: Sequence[tuple[float, float]], dtype: torch.dtype) -> tuple[float, int]:
    """Seconds until the first mask, and how many frames there are. The masks are thresholded at full size and fetched, and nothing more."""
    begun, first, count = time.perf_counter(), 0.0, 0
    with torch.inference_mode(), torch.autocast(made.device.type, dtype, enabled=dtype != torch.float32):
        state = made.init_state(video_path=str(folder))
        for number, point in enumerate(points, 1):
            made.add_new_points_or_box(state, frame_idx=0, obj_id=number, points=[list(point)], labels=[1])
        for _, _, logits in made.propagate_in_video(state):
            (logits > 0).cpu().numpy()
            first = first or time.perf_counter() - begun
            count += 1
    return first, count


if __name__ == "__main__":
    torch.set_num_threads(1)
    track(predictor("tiny-sam2", "cpu"), Path(sys.argv[1]), [(128.0, 128.0)], torch.float32)
