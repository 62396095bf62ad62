#!/usr/bin/env bash
# A clip of the tiny world, its first eight frames continued in two ways: candidate, number, image and animation, tab-separated.
# usage: continue-a-clip.sh [FOLDER]
set -euo pipefail
folder=${1:-continued}
visiontk tiny render clips -n 1 --frames 12 --objects 1 -o "$folder/clips" --overwrite |
    visiontk lvm-continue --frames 8 -n 4 --candidates 2 --animate -o "$folder/out/" --overwrite |
    jq -r '[.lvm.candidate, .lvm.number, .path, .lvm.animation] | @tsv'
