#!/usr/bin/env bash
# The best label of every photo in a folder, as tab-separated values: path, label, score.
# usage: classify-to-tsv.sh [FOLDER]
set -euo pipefail
folder=${1:-"$(dirname "$0")/photos"}
find "$folder" -type f \( -name '*.jpg' -o -name '*.png' \) -print0 | sort -z |
    visiontk classify --null --top-k 1 --format jsonl |
    jq -r 'select(.classify.labels) | [.path, .classify.labels[0].label, .classify.labels[0].score] | @tsv'
