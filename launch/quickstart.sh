#!/usr/bin/env bash
# From a bare machine to a trained model: installs what is missing, builds, makes a corpus of real
# text, trains a small UniPool on two ranks and compares it with a bigram model.
#   launch/quickstart.sh [--ranks N] [--steps N] [--run-dir FOLDER]
set -euo pipefail
here=$(pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS

ranks=2
steps=1000
run_dir=runs/quickstart
need_value() { [[ $# -ge 2 ]] || { echo "quickstart.sh: $1 expects a value" >&2; exit 2; }; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --ranks) need_value "$@"; ranks=$2 ;;
    --steps) need_value "$@"; steps=$2 ;;
    --run-dir) need_value "$@"; run_dir=$(cd "$here" && realpath -m "$2") ;;
    *) echo "quickstart.sh: $1: unknown; expected --ranks N, --steps N, --run-dir FOLDER" >&2
       exit 2 ;;
  esac
  shift 2
done
for number in "$ranks" "$steps"; do
  if [[ ! $number =~ ^[1-9][0-9]*$ ]]; then
    echo "quickstart.sh: --ranks $ranks --steps $steps: expected numbers of at least 1" >&2
    exit 2
  fi
done
warmup_steps=$((steps < 1000 ? steps / 10 : 100))

bash tools/setup.sh
mkdir -p build
generator=()
[[ -f build/CMakeCache.txt ]] || generator=(-G Ninja)
echo "building ..."
if ! { cmake -S . -B build "${generator[@]}" && cmake --build build --target unipool; } \
    > build/quickstart.log 2>&1; then
  tail -40 build/quickstart.log >&2
  echo "quickstart.sh: the build failed; all of it is in build/quickstart.log" >&2
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
# Of the same tokens that the validation above is on: 256 sequences of 256.
"$unipool" data bigram "$corpus/corpus" --split 90,5,5 --tokens 65536
cat <<TEXT
quickstart took $((SECONDS - started)) s

what to try next
  longer                bash launch/quickstart.sh --steps 4000
  more ranks            bash launch/quickstart.sh --ranks 3      (prints the same losses)
  a pool for each layer launch/mpirun.sh -np 2 $unipool train --run-dir runs/vanilla \\
                          --config configs/quickstart.textproto --set pool.layers_per_pool=1 \\
                          --set pool.experts=8 --set pool.router=SOFTMAX \\
                          --set pool.layer_loss=0.01 --set pool.pool_loss=0
  pictures              python3 tools/plot_run.py $run_dir --output loss.svg
  what a config costs   $unipool config show configs/unipool_182m.textproto --ranks 8
  the speed of a step   $unipool bench step --config configs/bench.textproto --profile
TEXT
