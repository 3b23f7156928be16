#!/usr/bin/env bash
# Packs a build into an archive that runs on another x86-64 Linux with an NVIDIA driver and CUDA's
# libraries (cuBLAS; NCCL for several GPUs; optionally cuDNN):
#   tools/bundle.sh [BUILD_FOLDER] OUTPUT.tar.gz
# The archive has unipool with all libraries except those of CUDA and glibc, the tests of kernels,
# bench_gpu, configs, a small prepared corpus, Open MPI if it is installed here, and gpu.sh, which
# tests everything. An archive of more than 50 MB is an error.
set -euo pipefail

report() { echo "bundle.sh: $*" >&2; }
die() {
  report "$*"
  exit 1
}

[[ $# -ge 1 && $# -le 2 && $1 != -* && ${!#} == *.tar.gz ]] || {
  echo "usage: tools/bundle.sh [BUILD_FOLDER] OUTPUT.tar.gz" >&2
  exit 2
}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
[[ $# -eq 1 ]] || build=$(cd "$1" 2> /dev/null && pwd) || die "$1 is no folder; give a build folder"
output=${!#}
[[ -x $build/launch/unipool && -x $build/tools/bench_gpu ]] ||
  die "$build has no unipool or no bench_gpu; run cmake --build $build first"
readonly max_bytes=$((50 * 1000 * 1000))

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/unipool-bundle
mkdir -p "$bundle"/{bin,lib,tests,corpus}

# copy_libraries FILE ...: copies the shared libraries that the loader finds for these programs. It
# leaves out glibc, which must match the loader of the other machine, and the libraries of the
# driver and of CUDA.
copy_libraries() {
  local excluded='^(ld-linux|lib(c|m|dl|rt|pthread|resolv|util)\.so)'
  excluded+='|^lib(cuda|cudart|cublas|cublasLt|nccl)\.so'
  local path
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r path; do
    [[ $(basename "$path") =~ $excluded ]] || cp -Ln "$path" "$bundle/lib/"
  done
}

mapfile -t tests < <(find "$build/tests" -type f -name 'cuda_*_test' -perm -u+x)
[[ ${#tests[@]} -gt 0 ]] || die "$build has no tests of kernels; give a build folder with CUDA"
cp "$build/launch/unipool" "$build/tools/bench_gpu" "$bundle/bin/"
cp "${tests[@]}" "$bundle/tests/"
copy_libraries "$bundle"/bin/* "$bundle"/tests/*

# Copies Open MPI's programs and plugins to the folders that the file `environment` of the bundle
# names. Leaves out plugins for networks whose libraries are large.
copy_mpi() {
  local mpirun plugins plugin copied=()
  mpirun=$(command -v orterun) || return 0
  plugins=$(ls -d /usr/lib/*/openmpi/lib/openmpi3 2> /dev/null) || return 0
  mkdir -p "$bundle"/openmpi/{bin,plugins,pmix} "$bundle/openmpi/share"
  cp "$mpirun" "$bundle/openmpi/bin/mpirun"
  cp "$(command -v orted)" "$bundle/openmpi/bin/"
  for plugin in "$plugins"/mca_*.so; do
    [[ $plugin =~ (ofi|ucx|psm2?|openib|monitoring|gridengine|slurm)\.so$ ]] && continue
    cp "$plugin" "$bundle/openmpi/plugins/"
    copied+=("$plugin")
  done
  cp -r /usr/share/openmpi "$bundle/openmpi/share/"
  for plugin in "${plugins%/openmpi/*}"/pmix2/lib/pmix/*.so; do
    cp "$plugin" "$bundle/openmpi/pmix/"
    copied+=("$plugin")
  done
  copy_libraries "$mpirun" "${copied[@]}"
}

# Tokenizes the text of this repository, as data for small training runs.
make_corpus() {
  local text=$work/corpus.jsonl
  git -C "$root" ls-files '*.md' '*.h' '*.cc' '*.cu' '*.py' '*.sh' |
    (cd "$root" && python3 -c '
import json, sys
for name in sys.stdin.read().split():
    with open(name, encoding="utf-8") as stream:
        print(json.dumps({"text": stream.read()}))') > "$text"
  "$build/launch/unipool" data prepare --input "$text" --output "$bundle/corpus/corpus" > /dev/null
}

copy_mpi
make_corpus
strip --strip-unneeded "$bundle"/bin/{unipool,bench_gpu} "$bundle"/tests/*
cp -r "$root/configs" "$bundle/configs"
cp "$root/launch/mpirun.sh" "$bundle/bin/"
cp "$root"/tests/gpu.sh "$root"/tests/gpu_torch.py "$bundle/"
git -C "$root" rev-parse --short HEAD > "$bundle/version"

cat > "$bundle/environment" << 'ENVIRONMENT'
# Source this file before you run programs of the bundle: . ./environment
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LD_LIBRARY_PATH="$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64"
export PATH="$bundle/bin:$bundle/openmpi/bin:$PATH"
if [[ -d $bundle/openmpi ]]; then
  export OPAL_PREFIX="$bundle/openmpi" PMIX_INSTALL_PREFIX="$bundle/openmpi"
  export OMPI_MCA_mca_base_component_path="$bundle/openmpi/plugins"
  export PMIX_MCA_mca_base_component_path="$bundle/openmpi/pmix"
  # Without ssh, ranks can start on this host only.
  command -v ssh > /dev/null || export OMPI_MCA_plm="${OMPI_MCA_plm:-isolated}"
fi
ENVIRONMENT

tar -C "$work" -czf "$output" unipool-bundle
bytes=$(stat -c %s "$output")
((bytes <= max_bytes)) || die "$output has $bytes bytes, more than the maximum of $max_bytes"
report "$output: $((bytes / 1000000)) MB, unpacked $(du -sm "$bundle" | cut -f1) MB;" \
  "unpack it on the other machine and run gpu.sh"
