#!/usr/bin/env bash
# A step at the shape of Qwen3-4B with 256 rollouts at once: seconds, tokens and share of the GPU's data sheet by phase, and the
# kernels that take the time. bench/gpu.py says what is measured. At most 14 minutes on one GPU of 96 GB or more, without network.
#
#   bench/gpu.sh                                           an H200, or ROWS=128 on an H100 of 80 GB
#   TFLOPS=835 TERABYTES=3.9 bench/gpu.sh                  another GPU: TFLOP/s in bfloat16 and TB/s of its data sheet
#   DEVICE=cpu TFLOPS=0.1 TERABYTES=0.016 bench/gpu.sh     a tiny model, for the logic of the script
#
# The last line is all that was run of this script so far: it has not run on a GPU yet.
set -uo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
out=$(realpath -m "${OUT:-reports/gpu}")
options=(--device "$device" --rows "${ROWS:-256}" ${TFLOPS:+--tflops "$TFLOPS"} ${TERABYTES:+--terabytes "$TERABYTES"})
mkdir -p "$out"
rm -f "$out"/*.txt "$out"/*.log
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

part() {  # name, seconds, command; a part that fails or takes too long does not keep the next from running
    echo "== $1, at most $2 s"
    timeout --kill-after 10 "$2" "${@:3}" > "$out/$1.log" 2>&1
    local code=$?
    [ $code -eq 0 ] || { echo "$1 ended with $code$([ $code -eq 124 ] && echo ", out of time"); the end of its log:"; tail -n 5 "$out/$1.log"; }
}

[ "$device" = cpu ] || part gpu 20 nvidia-smi
part versions 60 python -c "import platform, torch, transformers; print(platform.python_version(), torch.__version__, transformers.__version__)"
part steps 560 python -m bench.gpu steps --out "$out/steps.txt" "${options[@]}"
part kernels 180 python -m bench.gpu kernels --out "$out/kernels.txt" "${options[@]}"

echo "== Python, torch and transformers $(cat "$out/versions.log")"
echo "Logs, and the kernels (kernels.txt), are in $out."
cat "$out/steps.txt"
