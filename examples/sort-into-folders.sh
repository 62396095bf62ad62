#!/usr/bin/env bash
# Copies every photo into a folder named after its label, where the model is sure enough.
# usage: sort-into-folders.sh FROM TO [LEAST_SCORE]
set -euo pipefail
from=${1:-"$(dirname "$0")/photos"} to=${2:-sorted} least=${3:-0.3}
visiontk classify "$from" --top-k 1 --threshold "$least" --format jsonl |
    jq -r 'select(.classify.labels[0]) | [.path, .classify.labels[0].label] | @tsv' |
    while IFS=$'\t' read -r path label; do
        mkdir -p "$to/$label"
        cp -n "$path" "$to/$label/"
    done
