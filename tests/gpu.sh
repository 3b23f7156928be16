#!/usr/bin/env bash
# Runs all tests and benchmarks that need a GPU, in less than 9 minutes: tests of kernels, training
# on GPU and CPU with equal losses, several ranks on one GPU, checkpoints that move between devices,
# compute-sanitizer if it is installed, and speed. Prints a table at the end and writes it to
# OUT/gpu_results.json and OUT/gpu_results.md. Uses build/ in a checkout, or the programs of a
# bundle (tools/bundle.sh).
#   tests/gpu.sh [--out FOLDER] [--only STAGE,...] [--small]
#   stages: tests, losses, ranks, checkpoints, sanitizer, rates, steps, torch
#   --small: small sizes, to test this script with an emulated GPU
set -uo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=gpu-results only=tests,losses,ranks,checkpoints,sanitizer,rates,steps,torch small=
while [[ $# -gt 0 ]]; do
  case $1 in
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --only) only=${2:?--only needs stages}; shift 2 ;;
    --small) small=--small; shift ;;
    *)
      echo "gpu.sh: $1 is no option; use --out FOLDER, --only STAGE,... or --small" >&2
      exit 2 ;;
  esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2

if [[ -f $folder/environment ]]; then
  # shellcheck source=/dev/null
  . "$folder/environment"
  unipool=$folder/bin/unipool bench=$folder/bin/bench_gpu tests=("$folder"/tests/cuda_*_test)
  mpirun=$folder/bin/mpirun.sh corpus=$folder/corpus/corpus
  configs=$folder/configs
else
  build=${UNIPOOL_BUILD:-$folder/../build}
  build=$(cd "$build" 2> /dev/null && pwd) || {
    echo "gpu.sh: there is no build folder; run cmake -S . -B build -G Ninja && cmake --build" \
      "build, or set UNIPOOL_BUILD" >&2
    exit 2
  }
  unipool=$build/launch/unipool bench=$build/tools/bench_gpu
  mapfile -t tests < <(find "$build/tests" -type f -name 'cuda_*_test' -perm -u+x | sort)
  mpirun=$folder/../launch/mpirun.sh corpus=$out/corpus
  configs=$folder/../configs
fi
for program in "$unipool" "$bench"; do
  [[ -x $program ]] || { echo "gpu.sh: $program is not built; build it first" >&2; exit 2; }
done

# in_time WHAT: returns true if 480 s have not passed; otherwise records that WHAT is skipped.
in_time() {
  [[ $SECONDS -ge 480 ]] || return 0
  record "$1" "no time left" "" skipped
  return 1
}
# selected STAGE: returns true if --only includes the stage and there is time for it.
selected() { [[ ,$only, == *,$1,* ]] && in_time "$1"; }

results=$out/results.tsv
: > "$results"
failures=0
# record KEY VALUE GOAL VERDICT: adds a line to the table. VERDICT is ok, FAILED, skipped, or empty
# for a value without a bound.
record() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >> "$results"
  [[ $4 != FAILED ]] || failures=$((failures + 1))
  echo "gpu.sh: $1: $2 ${4}"
}
# record_bound KEY VALUE BOUND: records ok if VALUE <= BOUND; an empty VALUE is a failure.
record_bound() {
  local verdict
  verdict=$(awk -v value="${2:-nan}" -v bound="$3" 'BEGIN {
    print (value ~ /^[0-9.e+-]+$/ && value + 0 <= bound + 0) ? "ok" : "FAILED" }')
  record "$1" "${2:-none}" "at most $3" "$verdict"
}

# train NAME [FLAG ...]: trains a small model on the corpus, in OUT/NAME. `steps` (10) is the number
# of steps; with resume=yes the run resumes, else a new run starts. `launcher` precedes the program.
train() {
  local name=$1 start=(--fresh --force)
  shift
  [[ ${resume:-} != yes ]] || start=()
  "${launcher[@]}" "$unipool" train --config "$configs/bench.textproto" --run-dir "$out/$name" \
    "${start[@]}" --set "data.prefix=$corpus" --set "steps=${steps:-10}" --set eval.sequences=2 \
    --set schedule.warmup_steps=2 --set schedule.lr=2e-3 --set checkpoint.every_steps=0 \
    ${small:+--set model.hidden=32 --set model.ffn=32 --set model.layers=2 --set pool.experts=4} \
    ${small:+--set model.sequence=16 --set data.global_batch=4 --set model.vocab=512} \
    "$@" > "$out/$name.log" 2>&1
  local status=$?
  [[ $status -eq 0 ]] ||
    record "training $name" "exit status $status: $(tail -n 1 "$out/$name.log")" "" FAILED
  return $status
}
launcher=()

# field NAME KEY: prints the value of a key in each record of a run.
field() { sed -n "s/.*\"$2\": *\([-0-9.e+]*\).*/\1/p" "$out/$1/metrics.jsonl"; }
# largest_difference A B KEY: prints the largest relative difference of a key between two runs;
# prints nothing if the runs differ in their number of values.
largest_difference() {
  paste <(field "$1" "$3") <(field "$2" "$3") | awk '
    NF != 2 { bad = 1 }
    { d = ($1 > $2 ? $1 - $2 : $2 - $1) / ($1 > 1e-30 ? $1 : 1); if (d > max) max = d }
    END { if (!bad && NR > 0) printf "%.2e", max }'
}

test_kernels() {
  local test passed=0 skipped=0 failed=0
  # run_test NAME TEST: runs a GoogleTest program and counts its cases.
  run_test() {
    local log=$out/$1.log
    if timeout 150 "$2" --gtest_color=no > "$log" 2>&1; then
      passed=$((passed + $(grep -c '^\[       OK' "$log")))
    else
      failed=$((failed + 1))
      record "test $1" "see $log" "" FAILED
    fi
    skipped=$((skipped + $(grep -c '^\[  SKIPPED \].*ms' "$log")))
  }
  for test in "${tests[@]}"; do
    in_time "$(basename "$test")" || continue
    run_test "$(basename "$test")" "$test"
    # Also test the kernels for GPUs other than Hopper.
    [[ $test != */cuda_grouped_gemm_test ]] ||
      UNIPOOL_WGMMA=0 run_test cuda_grouped_gemm_test_by_mma "$test"
    # Also test attention without cuDNN.
    [[ $test != */cuda_attention_test ]] ||
      UNIPOOL_CUDNN=0 run_test cuda_attention_test_by_own_kernels "$test"
  done
  record "kernels' tests" "$passed passed, $failed programs failed, $skipped skipped" "all pass" \
    "$([[ $failed -eq 0 && $passed -gt 0 ]] && echo ok || echo FAILED)"
}

compare_losses() {
  train cpu --device cpu --set model.precision=FP32
  train gpu_fp32 --device cuda --set model.precision=FP32
  train gpu_bf16 --device cuda --set model.precision=BF16
  train gpu_bf16_again --device cuda --set model.precision=BF16
  record_bound "ten losses, GPU fp32 against CPU" "$(largest_difference cpu gpu_fp32 lm_loss)" 1e-4
  record_bound "ten losses, GPU bf16 against CPU" "$(largest_difference cpu gpu_bf16 lm_loss)" 1e-2
  if "$unipool" checkpoint diff "$out/gpu_bf16" "$out/gpu_bf16_again" > "$out/diff.log" 2>&1 &&
    cmp -s <(field gpu_bf16 lm_loss) <(field gpu_bf16_again lm_loss); then
    record "the same run twice, bf16" "same bits" "same bits" ok
  else
    record "the same run twice, bf16" "differ: $out/diff.log" "same bits" FAILED
  fi
}

compare_ranks() {
  local ranks
  if ! command -v mpirun > /dev/null; then
    record "several ranks on one GPU" "mpirun is not installed" "" skipped
    return
  fi
  train ranks_1 --device cuda --set model.precision=FP32
  for ranks in 2 4; do
    launcher=(env CUDA_VISIBLE_DEVICES=0 bash "$mpirun" -np "$ranks")
    train "ranks_$ranks" --device cuda --set model.precision=FP32
    launcher=()
    record_bound "$ranks ranks on one GPU against one" \
      "$(largest_difference ranks_1 "ranks_$ranks" lm_loss)" 1e-5
  done
  if [[ $(nvidia-smi -L 2> /dev/null | grep -c '^GPU ') -lt 2 ]]; then
    record "2 ranks over NCCL" "fewer than two GPUs" "" skipped
    return
  fi
  launcher=(bash "$mpirun" -np 2)
  train nccl_2 --device cuda --set model.precision=FP32
  launcher=()
  ! grep -q "NCCL is not used" "$out/nccl_2.log" ||
    record "2 ranks over NCCL" "$(grep -m1 -o 'NCCL is not used.*' "$out/nccl_2.log")" "" FAILED
  record_bound "2 ranks over NCCL against one" "$(largest_difference ranks_1 nccl_2 lm_loss)" 1e-5
}

move_checkpoints() {
  steps=15 train uninterrupted --device cpu --set model.precision=FP32
  steps=15 train moved --device cpu --set model.precision=FP32 --stop-after 5
  resume=yes steps=15 train moved --device cuda --set model.precision=FP32 --stop-after 10
  resume=yes steps=15 train moved --device cpu --set model.precision=FP32
  record_bound "run resumed on CPU, GPU, CPU" \
    "$(largest_difference uninterrupted moved lm_loss)" 1e-4
}

sanitize() {
  local tool test log
  if ! command -v compute-sanitizer > /dev/null; then
    record compute-sanitizer "not installed" "" skipped
    return
  fi
  for tool in memcheck racecheck; do
    for test in "${tests[@]}"; do
      in_time "$tool $(basename "$test")" || continue
      log=$out/$tool.$(basename "$test").log
      timeout 40 compute-sanitizer --tool "$tool" --error-exitcode 9 "$test" --gtest_brief=1 \
        > "$log" 2>&1
      case $? in
        0) record "$tool $(basename "$test")" clean clean ok ;;
        124) record "$tool $(basename "$test")" "timeout after 40 s" clean skipped ;;
        *) record "$tool $(basename "$test")" "$(grep -m1 -E '=========' "$log")" clean FAILED ;;
      esac
    done
  done
}

measure_rates() {
  if ! "$bench" $small --tsv "$out/rates.tsv" > "$out/rates.txt" 2>&1; then
    record "rates of ops" "$(tail -n 1 "$out/rates.txt")" "" FAILED
    return
  fi
  local name us rate share
  while IFS=$'\t' read -r name us rate share; do
    record "$name" "$us us, $rate, $share %" "" ""
  done < "$out/rates.tsv"
}

# measure_step NAME CONFIG SEQUENCES: records tokens/s of a step, and its share of the peak rate.
measure_step() {
  local log=$out/step_$1.log
  if timeout 100 "$unipool" bench step --config "$configs/$2.textproto" --device cuda --steps 5 \
    --set "data.global_batch=$3" --set "data.micro_batch=$3" --profile \
    ${small:+--set model.hidden=32 --set model.ffn=32 --set model.layers=2 --set model.heads=2} \
    ${small:+--set model.kv_heads=2 --set model.sequence=16 --set model.vocab=512} \
    ${small:+--set pool.layers_per_pool=$([[ $2 == moe* ]] && echo 1 || echo 2)} > "$log" 2>&1; then
    record "step $1, $3 sequences" "$(sed -nE 's/^(tokens\/s|share) +//p' "$log" | paste -sd, - |
      sed 's/,/ tokens\/s, /')" "" ""
  else
    record "step $1, $3 sequences" "$(tail -n 1 "$log")" "" FAILED
  fi
}

measure_steps() {
  local sequences sweep=(16 32 64) compared=32
  [[ -z $small ]] || sweep=(2) compared=2
  for sequences in "${sweep[@]}"; do
    measure_step "unipool_182m_$sequences" unipool_182m "$sequences"
  done
  measure_step moe_182m moe_182m "$compared"
}

measure_torch() {
  local script=$folder/gpu_torch.py
  if ! python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
    record "PyTorch's step" "PyTorch with a GPU is not installed" "" skipped
    return
  fi
  local sequences
  for sequences in 32 64; do
    local log=$out/torch_$sequences.log verdict=
    timeout 150 python3 "$script" --sequences "$sequences" > "$log" 2>&1 || verdict=FAILED
    record "PyTorch's step, $sequences sequences" "$(tail -n 1 "$log")" "" "$verdict"
  done
}

prepare_corpus() {
  [[ ! -f $corpus.idx ]] || return 0
  (cd "$folder/.." && python3 -c '
import glob, json
for name in sorted(glob.glob("*/*.cc") + glob.glob("*/*.md")):
    with open(name, encoding="utf-8") as stream:
        print(json.dumps({"text": stream.read()}))') > "$out/corpus.jsonl"
  "$unipool" data prepare --input "$out/corpus.jsonl" --output "$corpus" > /dev/null
}

describe() {
  record date "$(date -u +%F)" "" ""
  local query=name,memory.total,driver_version
  record version \
    "$(cat "$folder/version" 2> /dev/null || git -C "$folder" rev-parse --short HEAD)" "" ""
  record GPU \
    "$(nvidia-smi --query-gpu=$query --format=csv,noheader 2> /dev/null | paste -sd';' -)" "" ""
}

# Prints the table and its summary, and writes the JSON file.
report() {
  awk -F'\t' 'BEGIN { print "| what | measured | goal | |"; print "|---|---|---|---|" }
    { printf "| %s | %s | %s | %s |\n", $1, $2, $3, $4 }' "$results" | tee "$out/gpu_results.md"
  awk -F'\t' 'function quoted(text) { gsub(/["\\]/, "\\\\&", text); return "\"" text "\"" }
    BEGIN { print "[" }
    NR > 1 { printf ",\n" }
    { printf "{\"what\": %s, \"measured\": %s, \"goal\": %s, \"verdict\": %s}",
        quoted($1), quoted($2), quoted($3), quoted($4) }
    END { print "\n]" }' "$results" > "$out/gpu_results.json"
  echo "gpu.sh: $failures failed, $(awk -F'\t' '$4 == "skipped"' "$results" | wc -l) skipped," \
    "in $SECONDS s; $out/gpu_results.json"
}

"$bench" --small > "$out/probe.txt" 2>&1
if [[ $? -eq 77 ]]; then
  echo "gpu.sh: skipped: $(tail -n 1 "$out/probe.txt")"
  exit 77
fi
describe
prepare_corpus || { record corpus "cannot be made" "" FAILED; report; exit 1; }
! selected tests || test_kernels
! selected losses || compare_losses
! selected ranks || compare_ranks
! selected checkpoints || move_checkpoints
! selected rates || measure_rates
! selected steps || measure_steps
! selected torch || measure_torch
! selected sanitizer || sanitize
report
[[ $failures -eq 0 ]]
