#!/usr/bin/env bash
# Makes FOLDER/corpus.jsonl: about 37 MB of text of seven kinds from Debian packages. Downloads
# about 24 MB with apt-get and unpacks them in FOLDER. Installs nothing, so any user can run it.
# Does nothing if FOLDER has a corpus that the same version of this script made.
set -euo pipefail

packages=(anarchism fortunes fortunes-min dict-foldoc dict-jargon manpages manpages-dev
  postgresql-doc-15 libpython3.11-stdlib hol-light)

die() {
  echo "quickstart_corpus: $*" >&2
  exit 1
}

[[ $# -eq 1 && $1 != -* ]] || { echo "usage: tools/quickstart_corpus.sh FOLDER" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1" 2>/dev/null || die "cannot create the folder $1; choose another"
folder=$(cd "$1" && pwd)
recipe=$(cat "$tools"/quickstart_corpus.{sh,py} | sha256sum | cut -d' ' -f1)
if [[ -s $folder/corpus.jsonl && $(cat "$folder/corpus.recipe" 2>/dev/null) == "$recipe" ]]; then
  echo "$folder/corpus.jsonl exists and is current"
  exit 0
fi
for program in apt-get dpkg python3; do
  command -v "$program" >/dev/null || die "$program is not installed, but the text comes from" \
    "Debian packages; on other systems give your own text to 'unipool data prepare'"
done

# The sandbox user of apt may lack permission to enter the folder, so apt does not change to it.
# Signatures are checked in any case.
apt=(apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=2)
log=$folder/apt.log
mkdir -p "$folder/packages"
cd "$folder/packages"

fetch() { "${apt[@]}" download "$@" >>"$log" 2>&1; }

# Downloads package lists into FOLDER, because those of the system may be missing or old, and only
# root can update them.
update_own_lists() {
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
  apt+=(-o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache")
  "${apt[@]}" update >>"$log" 2>&1 || return 1
  # Without a network apt-get prints a warning and succeeds.
  compgen -G "$folder/apt/lists/*_Packages*" >/dev/null
}

: >"$log"
echo "downloading ${#packages[@]} packages, about 24 MB"
if ! fetch "${packages[@]}"; then
  echo "updating the package lists"
  update_own_lists || die "cannot download the package lists; check the network, and see $log"
  if ! fetch "${packages[@]}"; then
    # Another release of Debian may lack some packages; quickstart_corpus.py checks whether the rest
    # is enough.
    for package in "${packages[@]}"; do
      fetch "$package" || echo "quickstart_corpus: package $package is not available; see $log" >&2
    done
  fi
fi
shopt -s nullglob
debs=(*.deb)
[[ ${#debs[@]} -gt 0 ]] || die "no package could be downloaded; check the network, and see $log"

echo "unpacking"
rm -rf "$folder/unpacked"
mkdir "$folder/unpacked"
printf '%s\0' "${debs[@]}" | xargs -0 -P "$(nproc)" -I{} dpkg -x {} "$folder/unpacked" ||
  die "cannot unpack the packages; remove $folder/packages and try again"

echo "making documents"
python3 "$tools/quickstart_corpus.py" "$folder/unpacked" "$folder/corpus.jsonl"
echo "$recipe" >"$folder/corpus.recipe"
rm -rf "$folder/unpacked" "$folder/apt" "$log"
