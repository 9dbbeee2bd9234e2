#!/usr/bin/env bash
# Trains hub_configs/simlvm-small: pictures, VQGAN, tokens, and a language model in two passes.
#
#     scripts/train_default_simlvm.sh [--budget cpu|gpu] DATA OUTPUT
#
# cpu (the default) takes two cores about 70 minutes; gpu is the same recipe with more pictures in a step and more steps,
# on one GPU. DATA holds camvid/train.parquet (image, label_map), nuclei/dsb-he-train.parquet (image, mask),
# tiny-imagenet/train.parquet and imagenet-sample-1000/imagenet-sample-1000.parquet; drawn shapes are made on the way.
# Each part is skipped where it is done, and both trainings resume. --list prints the files it reads, and of which only
# some rows are, and ends. See docs/results.md.
set -euo pipefail
usage() { sed -n 's/^# \{0,1\}//; 2,5p' "$0" >&2; exit 2; }
budget=cpu list=
while [[ ${1:-} == --* ]]; do
    case $1 in
        --budget) budget=${2:-}; shift 2 || usage ;;
        --list) list=yes; shift ;;
        *) usage ;;
    esac
done
[ $# -eq 2 ] || { [ -n "$list" ] && [ $# -eq 1 ]; } || usage
data=$1 out=${2:-} here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}

case $budget in
    cpu) vqgan=(--batch-size 8 --max-steps 5000 --learning-rate 2e-3 --unquantized-steps 500)
        first=(--batch-size 2 --max-steps 1400) second=(--batch-size 2 --max-steps 1050) launch=("$python" -m torch.distributed.run --nproc_per_node 2)
        export ACCELERATE_USE_CPU=true ;;
    gpu) vqgan=(--batch-size 32 --max-steps 30000 --learning-rate 1e-3 --unquantized-steps 1000 --compile)
        first=(--batch-size 16 --max-steps 8000) second=(--batch-size 16 --max-steps 8000) launch=("$python") ;;
    *) echo "error: --budget is cpu or gpu, found '$budget'." >&2; exit 2 ;;
esac

camvid=$data/camvid/train.parquet nuclei=$data/nuclei/dsb-he-train.parquet
tiny=$data/tiny-imagenet/train.parquet photos=$data/imagenet-sample-1000/imagenet-sample-1000.parquet
# the last 200 are for measuring, and rows 329, 349, 526 and 720 are, smaller, in Tiny-ImageNet's validation split
photographs=("$photos[:329]" "$photos[330:349]" "$photos[350:526]" "$photos[527:720]" "$photos[721:800]")
pictures=(
    "segmentation:shapes[:800]" "denoising:shapes[800:1200]?sigma=50" "brightness:shapes[1200:1600]?factor=0.4"
    "colourisation:shapes[1600:2000]"
    "segmentation:$camvid?foreground=3&draws=4&gamma=0.5-2&tint=0.15"
    "palette_segmentation:$camvid?classes=0,1,3,5,8&draws=2&gamma=0.5-2&tint=0.15"
    "segmentation:$nuclei?draws=10&gamma=0.6-1.6&tint=0.4"
)
for some in "${photographs[@]}"; do pictures+=("denoising:$some?sigma=50" "brightness:$some?factor=0.4"); done
pairs=(
    "segmentation:shapes[:2500]" "denoising:shapes[2500:3300]?sigma=50" "brightness:shapes[3300:4100]?factor=0.4"
    "colourisation:shapes[4100:5600]" "inpainting:shapes[5600:6000]" "rotation:shapes[6000:6300]?degrees=90"
    "segmentation:$camvid?foreground=3&draws=10&gamma=0.5-2&tint=0.15"
    "palette_segmentation:$camvid?classes=0,1,3,5,8&draws=10&gamma=0.5-2&tint=0.15"
    "denoising:$camvid?sigma=50" "brightness:$camvid?factor=0.4"
    "segmentation:$nuclei?draws=30&gamma=0.6-1.6&tint=0.4" "stain_brightness:$nuclei?draws=3"
)
for some in "${photographs[@]}"; do
    pairs+=("denoising:$some?sigma=50" "brightness:$some?factor=0.4" "colourisation:$some")
done
for some in "${photographs[@]:3}"; do
    pairs+=("inpainting:$some" "deblurring:$some" "super_resolution:$some" "deraining:$some" "edges:$some" "contrast:$some")
done
again=(
    "segmentation:$camvid?foreground=3&draws=6&gamma=0.5-2&tint=0.15"
    "palette_segmentation:$camvid?classes=0,1,3,5,8&draws=6&gamma=0.5-2&tint=0.15"
    "segmentation:$nuclei?draws=20&gamma=0.6-1.6&tint=0.4"
)
if [ -n "$list" ]; then
    printf '%s\n' "$tiny[::4]" "${pictures[@]}" "${pairs[@]}" "${again[@]}"
    exit 0
fi
mkdir -p "$out"

[ -f "$out/pictures.parquet" ] || OMP_NUM_THREADS=1 "$python" "$here/scripts/build_pairs.py" --columns pictures --augment \
    --size 128 --output "$out/pictures.parquet" --data "${pictures[@]}"

[ -d "$out/vqgan/model" ] || OMP_NUM_THREADS=2 "$python" "$here/scripts/train_vqgan.py" --preset small --tracker none \
    --config "$here/hub_configs/vqgan-sentence-128" --data "$out/pictures.parquet" "$tiny[::4]" "${photographs[@]}" \
    --output "$out/vqgan" "${vqgan[@]}" --no-random-crop --checkpoint-every 1000 --resume latest

tokenize() {
    OMP_NUM_THREADS=1 "$python" "$here/scripts/tokenize_dataset.py" --model "$out/vqgan/model" --output "$out/$1" \
        --workers 2 --augment --seed "$2" --data "${@:3}"
}
tokenize tokens 0 "${pairs[@]}"
tokenize tokens-again 1 "${again[@]}"

train() { # NAME, options
    [ -d "$out/$1/model" ] || OMP_NUM_THREADS=1 "${launch[@]}" "$here/scripts/train_simlvm.py" --preset small \
        --output "$out/$1" --min-pairs 3 --max-pairs 3 --tracker none --resume latest "${@:2}"
}
train simlvm-first --from-scratch --config "$here/hub_configs/simlvm-small" --vqgan "$out/vqgan/model" \
    --data "$out/tokens" "${first[@]}"
# what it writes itself is not to be trusted as the truth was: answers are read with noise, more of them of photographs
train simlvm-second --config "$out/simlvm-first/model" --data "$out/tokens" "$out/tokens-again" --answer-noise 0.5 \
    --learning-rate 2e-3 --muon-learning-rate 7e-3 --warmup-steps 20 "${second[@]}"

[ -d "$out/simlvm-small" ] || "$python" -c 'from visual_sentence_cli import main; main()' compact \
    "$out/simlvm-second/model" -o "$out/simlvm-small"
