#!/usr/bin/env bash
# Two models beside each other: their best labels for each photo, and whether these agree.
# usage: compare-models.sh FIRST SECOND [FOLDER]     e.g. compare-models.sh vit-base efficientnet-lite0 photos/
set -euo pipefail
first=${1:-efficientnet-lite0} second=${2:-efficientnet-lite0} folder=${3:-"$(dirname "$0")/photos"}
visiontk classify "$folder" --model "$first" --as first --format jsonl |
    visiontk classify --model "$second" --as second --format jsonl |
    jq -r '[.path, .first.labels[0].label, .second.labels[0].label, .first.labels[0].label == .second.labels[0].label] | @tsv'
