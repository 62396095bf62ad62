#!/usr/bin/env bash
# Draw what the prompts say and ask a classifier what it sees: prompt and label, tab-separated. Prompts as arguments; without any, three.
set -euo pipefail

(($#)) || set -- "an apple on a blue background" "a balloon on a white background" "a star on a purple background"
visiontk generate "$@" -o "drawn/{prompt_slug}-{seed}.png" --overwrite |
    visiontk classify --model tiny-vit --top-k 1 |
    jq -r '[.generate.prompt, .classify.labels[0].label] | @tsv'
