#!/usr/bin/env bash
# A clip of the tiny world, its things followed from the masks of the first frame, an overlay to look at, and how good it is.
# usage: segment-video.sh [FOLDER]
set -euo pipefail
folder=${1:-segmented}
visiontk tiny render clips -n 1 --size 128 --frames 16 --objects 2 -o "$folder/clips" --overwrite |
    jq -r '.path' |
    while read -r clip; do
        name=$(basename "$clip")
        visiontk segment "$clip" --prompt "mask:$folder/clips/Annotations/$name/00000.png" \
            --save overlay,masks -o "$folder/out" --overwrite --format jsonl > "$folder/$name.jsonl"
        visiontk eval segment "$folder/out/$name" "$folder/clips/Annotations/$name" --format jsonl |
            jq -r 'select(.objects) | ["'"$folder/out/$name-overlay.mp4"'", ."J&F"] | @tsv'
    done
