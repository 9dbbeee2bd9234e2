#!/usr/bin/env bash
# Trains hub_configs/simlvm-small-96 and simlvm-gru-small-96 on two cores: pictures, VQGAN, tokens, both language models.
#
#     scripts/train_simlvm_small.sh DATA OUTPUT
#
# DATA holds camvid/train.parquet (image, label_map) and nuclei/dsb-he-train.parquet (image, mask); drawn shapes are made
# on the way. Each part is skipped where it is done, and both trainings resume. See docs/results.md.
set -euo pipefail
data=$1 out=$2 here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
mkdir -p "$out"

[ -f "$out/pictures.parquet" ] || OMP_NUM_THREADS=1 "$python" "$here/scripts/build_pairs.py" --columns pictures --augment \
    --size 96 --output "$out/pictures.parquet" --data \
    "segmentation:shapes[:2000]" "denoising:shapes[2000:3000]?sigma=50" "brightness:shapes[3000:4000]?factor=0.4" \
    "colourisation:shapes[4000:5000]" \
    "segmentation:$data/camvid/train.parquet?foreground=3&draws=5&gamma=0.5-2&tint=0.15" \
    "segmentation:$data/nuclei/dsb-he-train.parquet?draws=12&gamma=0.6-1.6&tint=0.3"

[ -d "$out/vqgan/model" ] || OMP_NUM_THREADS=2 "$python" "$here/scripts/train_vqgan.py" --preset small --tracker none \
    --config "$here/hub_configs/vqgan-sentence-96" --data "$out/pictures.parquet" --output "$out/vqgan" \
    --batch-size 8 --learning-rate 2e-3 --unquantized-steps 400 --max-steps 3000 --no-random-crop --checkpoint-every 1000 \
    --resume latest

OMP_NUM_THREADS=1 "$python" "$here/scripts/tokenize_dataset.py" --model "$out/vqgan/model" --output "$out/tokens" \
    --workers 2 --augment --data \
    "segmentation:shapes[:2000]" "denoising:shapes[2000:3800]?sigma=50" "brightness:shapes[3800:5300]?factor=0.4" \
    "colourisation:shapes[5300:7500]" \
    "segmentation:$data/camvid/train.parquet?foreground=3&draws=25&gamma=0.5-2&tint=0.15" \
    "segmentation:$data/nuclei/dsb-he-train.parquet?draws=20&gamma=0.6-1.6&tint=0.3"

train() {
    [ -d "$out/$1/model" ] || OMP_NUM_THREADS=1 "$python" "$here/scripts/train_simlvm.py" --preset small --from-scratch \
        --config "$here/hub_configs/$1" --vqgan "$out/vqgan/model" --data "$out/tokens" --output "$out/$1" \
        --tracker none --resume latest --answer-noise 0.5 "${@:2}"
}
# about equal times; recurrent layers go token by token, so they are given larger batches and fewer steps
train simlvm-small-96 --batch-size 2 --max-steps 2800 &
llama=$!
train simlvm-gru-small-96 --batch-size 4 --max-steps 750 --warmup-steps 30 &
gru=$!
wait "$llama"
wait "$gru"
