#!/usr/bin/env bash
# From a bare machine to a trained model: installs missing packages, builds the program, makes a
# corpus of real text, trains a small UniPool model on two ranks, and compares it with a bigram
# model on the same text.
#   launch/quickstart.sh [--ranks N] [--steps N] [--run-dir FOLDER]
set -euo pipefail
here=$(pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS

usage='usage: launch/quickstart.sh [--ranks N] [--steps N] [--run-dir FOLDER]'
fail() { echo "quickstart.sh: $*" >&2; exit 2; }

ranks=2
steps=400
run_dir=runs/quickstart
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --ranks | --steps | --run-dir) [[ $# -ge 2 ]] || fail "$1 needs a value; $usage" ;;&
    --ranks) ranks=$2 ;;
    --steps) steps=$2 ;;
    --run-dir) run_dir=$(cd "$here" && realpath -m "$2") ;;
    *) fail "unknown argument $1; $usage" ;;
  esac
  shift 2
done
for number in "$ranks" "$steps"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || fail "--ranks $ranks --steps $steps: both must be at least 1"
done
warmup_steps=$((steps < 1000 ? steps / 10 : 100))

# Compiling the CUDA kernels takes minutes, so a first build has them only for a GPU that this
# machine has. An existing build folder keeps its own settings.
configure_options() {
  [[ ! -f build/CMakeCache.txt ]] || return 0
  echo -G Ninja
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null |
    head -n 1) || true
  if [[ $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
    capability=${capability/./}
    [[ $capability != 90 ]] || capability=90a
    echo "-DUNIPOOL_CUDA_ARCHITECTURES=$capability-real"
  else
    echo -DUNIPOOL_WITH_CUDA=OFF
  fi
}

bash tools/setup.sh
mkdir -p build
read -r -d '' -a options < <(configure_options) || true
if [[ " ${options[*]} " == *UNIPOOL_WITH_CUDA=OFF* ]]; then
  echo "no GPU found: building for CPUs only" \
    "(for GPUs: cmake -S . -B build -DUNIPOOL_WITH_CUDA=ON && cmake --build build)"
fi
echo "building ..."
if ! { cmake -S . -B build "${options[@]}" && cmake --build build --target unipool; } \
    > build/quickstart.log 2>&1; then
  tail -40 build/quickstart.log >&2
  echo "quickstart.sh: the build failed; the whole output is in build/quickstart.log" >&2
  exit 1
fi
echo "built after $((SECONDS - started)) s"

corpus=runs/corpus
unipool=build/launch/unipool
bash tools/quickstart_corpus.sh "$corpus"
if [[ ! $corpus/corpus.idx -nt $corpus/corpus.jsonl ]]; then
  "$unipool" data prepare --input "$corpus/corpus.jsonl" --output "$corpus/corpus" --overwrite
fi

echo "training on $ranks ranks after $((SECONDS - started)) s"
launch/mpirun.sh -np "$ranks" "$unipool" train --config configs/quickstart.textproto \
  --run-dir "$run_dir" --force --set "steps=$steps" --set "schedule.warmup_steps=$warmup_steps"

echo
# On the same tokens as the validation above: 256 sequences of 256.
"$unipool" data bigram "$corpus/corpus" --split 90,5,5 --tokens 65536
cat <<TEXT
quickstart took $((SECONDS - started)) s

what to try next
  train longer          bash launch/quickstart.sh --steps 4000
  more ranks            bash launch/quickstart.sh --ranks 3      (prints the same losses)
  one pool per layer    launch/mpirun.sh -np 2 $unipool train --run-dir runs/vanilla \\
                          --config configs/quickstart.textproto --set pool.layers_per_pool=1 \\
                          --set pool.experts=8 --set pool.router=SOFTMAX \\
                          --set pool.layer_loss=0.01 --set pool.pool_loss=0
  plot the run          python3 tools/plot_run.py $run_dir --output loss.svg
  memory of a config    $unipool config show configs/unipool_182m.textproto --ranks 8
  speed of a step       $unipool bench step --config configs/bench.textproto --profile
TEXT
