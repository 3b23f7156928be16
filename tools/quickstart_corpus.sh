#!/usr/bin/env bash
# Makes FOLDER/corpus.jsonl: some 37 MB of real text of seven kinds out of Debian packages. Fetches
# about 24 MB with apt-get, unpacks below FOLDER and installs nothing, so any user may run it. Does
# nothing when the corpus of this recipe is there.
set -euo pipefail

packages=(anarchism fortunes fortunes-min dict-foldoc dict-jargon manpages manpages-dev
  postgresql-doc-15 libpython3.11-stdlib hol-light)

die() {
  echo "quickstart_corpus: $*" >&2
  exit 1
}

[[ $# -eq 1 && $1 != -* ]] || { echo "usage: tools/quickstart_corpus.sh FOLDER" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1" 2>/dev/null || die "cannot make the folder $1"
folder=$(cd "$1" && pwd)
recipe=$(cat "$tools"/quickstart_corpus.{sh,py} | sha256sum | cut -d' ' -f1)
if [[ -s $folder/corpus.jsonl && $(cat "$folder/corpus.recipe" 2>/dev/null) == "$recipe" ]]; then
  echo "$folder/corpus.jsonl is there already"
  exit 0
fi
for program in apt-get dpkg python3; do
  command -v "$program" >/dev/null || die "needs $program: the text comes from Debian packages." \
    "Elsewhere, give your own text to 'unipool data prepare'"
done

# The sandbox user of apt may not enter the folder; what is fetched is checked by signature anyway.
apt=(apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=2)
log=$folder/apt.log
mkdir -p "$folder/packages"
cd "$folder/packages"

fetch() { "${apt[@]}" download "$@" >>"$log" 2>&1; }

# Package lists of our own: those of the system may be missing or old, and only root may renew them.
use_own_lists() {
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
  apt+=(-o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache")
  "${apt[@]}" update >>"$log" 2>&1 || return 1
  # Without a network apt-get only warns.
  compgen -G "$folder/apt/lists/*_Packages*" >/dev/null
}

: >"$log"
echo "fetching ${#packages[@]} packages, about 24 MB"
if ! fetch "${packages[@]}"; then
  echo "renewing the package lists"
  use_own_lists || die "cannot fetch the package lists; is there a network? See $log"
  if ! fetch "${packages[@]}"; then
    # Another release may lack some; the cutter says whether the rest is enough.
    for package in "${packages[@]}"; do
      fetch "$package" || echo "no package $package here; see $log" >&2
    done
  fi
fi
shopt -s nullglob
debs=(*.deb)
[[ ${#debs[@]} -gt 0 ]] || die "no package could be fetched; is there a network? See $log"

echo "unpacking"
rm -rf "$folder/unpacked"
mkdir "$folder/unpacked"
printf '%s\0' "${debs[@]}" | xargs -0 -P "$(nproc)" -I{} dpkg -x {} "$folder/unpacked" ||
  die "cannot unpack; remove $folder/packages and try again"

echo "cutting documents"
python3 "$tools/quickstart_corpus.py" "$folder/unpacked" "$folder/corpus.jsonl"
echo "$recipe" >"$folder/corpus.recipe"
rm -rf "$folder/unpacked" "$folder/apt" "$log"
