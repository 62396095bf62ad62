#!/usr/bin/env bash
# What is to be seen in a video, second by second.
# usage: video-timeline.sh [VIDEO]
set -euo pipefail
video=${1:-"$(dirname "$0")/bunny.mp4"}
visiontk classify "$video" --fps 1 --top-k 3 --format jsonl |
    jq -r '"\(.time) s\t" + ([.classify.labels[] | "\(.label) \(.score * 100 | round)%"] | join(", "))'
