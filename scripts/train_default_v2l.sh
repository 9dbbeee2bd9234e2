#!/usr/bin/env bash
# Trains hub_configs/v2l-small-128, of which v2l-small is made: vectors of the offline language model's words, then encoder,
# decoder and projector.
#
#     scripts/train_default_v2l.sh [--budget cpu|gpu] DATA OUTPUT
#
# cpu (the default) takes one core about 26 minutes; gpu is the same recipe with more pictures in a step and more steps, on
# one GPU. DATA holds tiny-imagenet/train.parquet and imagenet-sample-1000/imagenet-sample-1000.parquet. Each part is
# skipped where it is done, and training resumes. --list prints what it reads, and ends. See docs/results.md.
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
command=("$python" -c 'from visual_sentence_cli import main; main()')

case $budget in
    cpu) training=(--batch-size 8 --max-steps 5000 --learning-rate 2e-3 --unquantized-steps 400) ;;
    gpu) training=(--batch-size 32 --max-steps 40000 --learning-rate 1e-3 --unquantized-steps 1000 --compile) ;;
    *) echo "error: --budget is cpu or gpu, found '$budget'." >&2; exit 2 ;;
esac

tiny=$data/tiny-imagenet/train.parquet photos=$data/imagenet-sample-1000/imagenet-sample-1000.parquet
# the last 200 are for measuring, and rows 329, 349, 526 and 720 are, smaller, in Tiny-ImageNet's validation split
pictures=("$tiny[::2]" "$photos[:329]" "$photos[330:349]" "$photos[350:526]" "$photos[527:720]" "$photos[721:800]")
if [ -n "$list" ]; then
    printf '%s\n' "${pictures[@]}"
    exit 0
fi
mkdir -p "$out"

[ -f "$out/words/local_codebook.json" ] || "${command[@]}" codebook local --kind text --llm offline --encoder offline \
    --output "$out/words"

[ -d "$out/v2l/model" ] || OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "$python" "$here/scripts/train_v2l.py" --preset small \
    --tracker none --config "$here/hub_configs/v2l-small-128" --local-codebook "$out/words" --global-model offline \
    --set num_global_tokens=21 --data "${pictures[@]}" --output "$out/v2l" "${training[@]}" --checkpoint-every 1000 \
    --resume latest

[ -d "$out/v2l-small" ] || "${command[@]}" compact "$out/v2l/model" -o "$out/v2l-small" \
    --data "$photos[800:]"
