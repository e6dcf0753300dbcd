#!/usr/bin/env bash
# Builds guests from source: every example service into target/bay, and with --fixtures every crate of tests/fixtures
# into target/fixtures. Needs nothing but a Rust toolchain; fetches what else it takes, see `choose_toolchain` and `python_tools`.
#
#   services/build.sh [--fixtures] [--force] [CRATE_FOLDER…]
#
#   --fixtures      the fixtures of the tests too
#   --force         run cargo even if no source has changed since the last time
#   CRATE_FOLDER    only these, e.g. services/hello (or a folder with an app.py)
#
# HOTBAY_GUEST_TOOLCHAIN=rustup|debian takes that toolchain and no other.
#
# A crate says itself what it is built for, in its Cargo.toml (the name of its folder is the name of the file):
#
#   [package.metadata.hotbay]
#   target = "wasm32-wasip2"                       # or a list; the file for wasip1 is then NAME-wasip1.wasm
#   stack = 524288                                 # bytes, instead of the default below
#   debug = true                                   # keeps files and lines, which `hotbay serve --dev` shows
#
# A folder of services/ with an app.py is a service in Python, of which componentize-py makes a component.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

componentize_py_version=0.25.1

# std and the dependencies are built once for all guests; apart from target/release, so that a guest build and a host
# build do not wait for each other's lock.
guests=$root/target/guests
guests_of_python=target/guests/python

# Rust gives a guest 1 MiB of stack, at the bottom of its memory. A fresh instance starts with all pages that the last
# one touched reset, and the host keeps that much resident for each slot, so the stack should be what is needed and not
# more. The deepest user here, `orders` with axum and serde, serves all its requests with 64 KiB too (futures live on
# the heap); four times that leaves room for recursion, such as nested JSON, which serde_json stops at 128 levels. The
# stack lies below the data (wasm-ld's --stack-first): too deep is a trap and never silent corruption. Two arguments,
# because wasm-component-ld does not take `-zstack-size=…` as one.
default_stack=262144

# Sizes and names come out the same whatever the caller has set for their own builds, and a wrapper or flags for
# the native target would break the build of std.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER CARGO_BUILD_RUSTC_WRAPPER
unset RUSTC CARGO_TARGET_DIR

say() { printf 'guests: %s\n' "$*"; }
fail() { printf 'guests: %s\n' "$@" >&2; exit 1; }

# --- which toolchain -------------------------------------------------------------------------------------------------

# Whether the rustc on PATH has a compiled std for this target.
has_std() {
  local lib
  lib=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
  compgen -G "$lib/libstd-*.rlib" >/dev/null
}

all_have_std() {
  local target
  for target in "$@"; do has_std "$target" || return 1; done
}

# rustup installs a component wholly or not at all, so a try that fails leaves the toolchain as it was. The time limit
# is for networks that swallow packets instead of refusing them.
rustup_add() {
  command -v rustup >/dev/null || return 1
  say "adding targets with rustup: $*"
  timeout 120 rustup target add "$@" >"$guests/rustup.log" 2>&1 && all_have_std "$@"
}

debian_packages=(rustc-web rust-web-src cargo-web wasi-libc)

has_debian() {
  [[ -x /usr/bin/rustc && -x /usr/bin/cargo && -d /usr/lib/wasm32-wasi && -d /usr/lib/rustlib/src/rust/library/std ]]
}

debian_install() {
  command -v apt-get >/dev/null || return 1
  local sudo=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || return 1
    sudo=(sudo)
  fi
  say "installing Debian's ${debian_packages[*]}"
  {
    "${sudo[@]}" apt-get update &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${debian_packages[@]}"
  } >"$guests/apt.log" 2>&1 && has_debian
}

# Debian's rustc has the wasm targets but neither a std nor a linker for them. The std is built from its sources; the
# linkers, wasm-component-ld and wasm-ld, come with every rustup toolchain.
use_debian() {
  local host bin
  host=$(rustc -vV | sed -n 's/^host: //p')
  bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
  [[ -x $bin/wasm-component-ld && -x $bin/gcc-ld/wasm-ld ]] ||
    fail "Debian's rustc can build std for $*, but there is no linker in $bin." \
      "Put a toolchain of rustup on PATH, which brings wasm-component-ld and wasm-ld: https://rustup.rs"
  toolchain=debian
  cargo=/usr/bin/cargo
  export PATH="$bin:$bin/gcc-ld:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
  # Rust's own copy of wasi-libc is missing with its std; Debian's takes its place.
  local flags="-C link-self-contained=no -L native=/usr/lib/wasm32-wasi"
  export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=$flags CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS=$flags
  toolchain_args=("-Zbuild-std=std,panic_abort")
}

use_rustup() {
  toolchain=rustup
  cargo=cargo
  toolchain_args=()
}

# What is there already comes first: it is quick and changes nothing on the machine.
choose_toolchain() {
  local want=${HOTBAY_GUEST_TOOLCHAIN:-any}
  [[ $want == any || $want == rustup || $want == debian ]] ||
    fail "HOTBAY_GUEST_TOOLCHAIN is $want; it can be rustup or debian"
  if [[ $want != debian ]]; then
    all_have_std "$@" && { use_rustup; return; }
  fi
  if [[ $want != rustup ]]; then
    has_debian && { use_debian "$@"; return; }
  fi
  if [[ $want != debian ]]; then
    rustup_add "$@" && { use_rustup; return; }
  fi
  if [[ $want != rustup ]]; then
    debian_install && { use_debian "$@"; return; }
  fi
  fail "no toolchain for $* is here and none could be installed. Either of these makes one:" \
    "  rustup target add $*" \
    "  apt-get install ${debian_packages[*]}    (Debian 12, beside a toolchain of rustup)" \
    "What was tried is in target/guests/rustup.log and target/guests/apt.log."
}

# --- what a crate says of itself -------------------------------------------------------------------------------------

# A key of [package.metadata.hotbay] without quotes and brackets: words, separated by spaces. Cargo prints it only as
# JSON, and neither jq nor Python is sure to be there.
metadata() {
  awk -v key="$2" '
    /^\[/ { inside = ($0 ~ /^\[package\.metadata\.hotbay\]/) }
    inside && $1 == key { sub(/^[^=]*=/, ""); sub(/#.*/, ""); gsub(/[][",]/, " "); print; exit }
  ' "$1/Cargo.toml" | xargs
}

package_name() {
  awk '
    /^\[/ { inside = ($0 ~ /^\[package\]/) }
    inside && $1 == "name" { gsub(/"/, "", $3); print $3; exit }
  ' "$1/Cargo.toml"
}

is_cdylib() { grep -q '^crate-type *=.*cdylib' "$1/Cargo.toml"; }

# --- building --------------------------------------------------------------------------------------------------------

# Places a file as the host wants it in a bay: whole at every moment, and untouched if nothing changed, so that
# building again swaps nothing. The name of the temporary starts with a dot, which the bay ignores.
place() {
  local from=$1 to=$2 temp
  cmp -s "$from" "$to" && return
  temp=$(dirname "$to")/.$(basename "$to").new
  install -m 644 "$from" "$temp"
  mv "$temp" "$to"
}

# build CRATE_FOLDER TARGET: leaves the path in `built`. One cargo call for each crate, because in one call for all of
# them the features of a dependency would be united, and `hello` would carry the router that `orders` asks for.
build() {
  local crate=$1 target=$2 package stack artifact link unit
  package=$(package_name "$crate")
  stack=$(metadata "$crate" stack)
  link=(-C link-arg=-z -C "link-arg=stack-size=${stack:-$default_stack}")
  # Arguments of this crate and not a profile, so that neither std nor dependencies are built once more for it.
  [[ $(metadata "$crate" debug) == true ]] && link+=(-C debuginfo=line-tables-only -C strip=none)
  if is_cdylib "$crate"; then
    unit=(--lib)
    artifact=${package//-/_}.wasm
  else
    unit=(--bin "$package")
    artifact=$package.wasm
    # With Rust's libc the start object is linked by rustc; with Debian's it must be named. An argument of this crate
    # and not in RUSTFLAGS, where it would go to libraries as well and std would be built twice.
    [[ $toolchain == debian ]] && link+=(-C link-arg=/usr/lib/wasm32-wasi/crt1-command.o)
  fi
  "$cargo" rustc --quiet --manifest-path "$crate/Cargo.toml" "${unit[@]}" --profile guest --target "$target" \
    --target-dir "$guests" "${toolchain_args[@]}" -- "${link[@]}" </dev/null ||
    fail "$crate does not build for $target"
  built=$guests/$target/guest/$artifact
  [[ -f $built ]] || fail "$crate was built for $target, but there is no ${built#"$root"/}"
}

# outputs CRATE_FOLDER: a line "TARGET FILE" for each file that comes of a crate.
outputs() {
  local crate=$1 out=target/bay name targets target suffix
  [[ $crate == *tests/fixtures/* ]] && out=target/fixtures
  name=$(basename "$crate")
  targets=$(metadata "$crate" target)
  for target in $targets; do
    suffix=
    [[ $targets == *" "* && $target == wasm32-wasip1 ]] && suffix=-wasip1
    printf '%s %s\n' "$target" "$out/$name$suffix.wasm"
  done
}

# guest CRATE_FOLDER: builds and places all that comes of a crate. Other files in the bay are left alone: whoever runs
# the host may have put them there.
guest() {
  local crate=$1 target file
  while read -r target file; do
    build "$crate" "$target"
    mkdir -p "$(dirname "$file")"
    # The settings first: a new build must not be published with the old ones.
    [[ -f $crate/$(basename "$crate").toml ]] && place "$crate/$(basename "$crate").toml" "${file%.wasm}.toml"
    place "$built" "$file"
    say "$(printf '%-36s %-14s %5d KiB' "$file" "$target" $(($(stat -c %s "$file") / 1024)))"
  done < <(outputs "$crate")
}

# --- Python ----------------------------------------------------------------------------------------------------------

# componentize-py, in a virtual environment of its own: nothing of the machine's Python is changed.
python_tools() {
  local venv=target/tools/python log=$guests/python.log wanted="componentize-py==$componentize_py_version"
  componentize=$venv/bin/componentize-py
  [[ -x $componentize && -f $venv/$wanted ]] && return
  say "fetching $wanted"
  rm -rf "$venv"
  if ! python3 -m venv "$venv" >"$log" 2>&1; then
    debian_packages=(python3-venv)
    has_debian() { rm -rf "$venv"; python3 -m venv "$venv" >>"$log" 2>&1; }
    debian_install || fail "there is no Python with venv for the services in Python, and it could not be installed." \
      "Install it (apt-get install python3-venv) and try again; see target/guests/python.log and target/guests/apt.log"
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$wanted" >>"$log" 2>&1 ||
    fail "$wanted could not be installed from PyPI; see target/guests/python.log"
  touch "$venv/$wanted"
}

# python_guest FOLDER: builds and places the service in it, if it has changed: the tool takes seconds for each.
python_guest() {
  local folder=$1 name file built_file
  name=$(basename "$folder")
  file=target/bay/$name.wasm
  built_file=$root/$guests_of_python/$name.wasm
  if [[ ! -f $built_file || -n $(find "$folder" wit services/build.sh -newer "$built_file" -print -quit) ]]; then
    mkdir -p "$(dirname "$built_file")"
    (cd "$folder" && PYTHONDONTWRITEBYTECODE=1 "$root/$componentize" --quiet --wit-path "$root/wit" --world service \
      componentize app --output "$built_file.new") >"$guests/$name.log" 2>&1 ||
      fail "$folder does not build; see target/guests/$name.log"
    mv "$built_file.new" "$built_file"
  fi
  mkdir -p target/bay
  [[ -f $folder/$name.toml ]] && place "$folder/$name.toml" "${file%.wasm}.toml"
  place "$built_file" "$file"
  say "$(printf '%-36s %-14s %5d KiB' "$file" python $(($(stat -c %s "$file") / 1024)))"
}

# Whether every output is there, no source is newer than the stamp and the compiler is the same. Folders count as
# sources, so that a removed file is seen. cargo knows this better, but asking it takes a third of a second for each
# crate.
unchanged() {
  local stamp=$1 newer crate file folder
  [[ -f $stamp && $(<"$stamp") == "$compiler" ]] || return 1
  newer=$(find Cargo.toml Cargo.lock guest-sdk services wit "${@:2}" -newer "$stamp" -print -quit) || return 1
  [[ -z $newer ]] || return 1
  for crate in "${crates[@]}"; do
    while read -r _ file; do [[ -f $file ]] || return 1; done < <(outputs "$crate")
  done
  for folder in "${pythons[@]}"; do [[ -f target/bay/$(basename "$folder").wasm ]] || return 1; done
}

main() {
  local argument manifest file stamp compiler folders folder
  fixtures=no force=no crates=() pythons=()
  for argument in "$@"; do
    case $argument in
    --fixtures) fixtures=yes ;;
    --force) force=yes ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit
      ;;
    -*) fail "unknown option $argument; see --help" ;;
    *)
      if [[ -f $argument/Cargo.toml ]]; then
        crates+=("${argument%/}")
      elif [[ -f $argument/app.py ]]; then
        pythons+=("${argument%/}")
      else
        fail "$argument is not a folder with a Cargo.toml or an app.py"
      fi
      ;;
    esac
  done

  command -v rustc >/dev/null || fail "there is no rustc on PATH. Install Rust first: https://rustup.rs"
  compiler="$(rustc --version) ${HOTBAY_GUEST_TOOLCHAIN:-any}"
  mkdir -p "$guests"
  stamp=
  if [[ ${#crates[@]} == 0 && ${#pythons[@]} == 0 ]]; then
    for file in services/*/app.py; do [[ -f $file ]] && pythons+=("$(dirname "$file")"); done
    stamp=$guests/.built
    folders=(services)
    if [[ $fixtures == yes && -d tests/fixtures ]]; then
      stamp=$guests/.built-with-fixtures
      folders+=(tests/fixtures)
    fi
    for manifest in "${folders[@]/%//*/Cargo.toml}"; do
      # Unquoted for the star; a crate without the section is a library that guests share.
      for file in $manifest; do
        [[ -f $file && -n $(metadata "$(dirname "$file")" target) ]] && crates+=("$(dirname "$file")")
      done
    done
    if [[ $force == no ]] && unchanged "$stamp" "${folders[@]}"; then
      say "nothing has changed"
      exit
    fi
    # The stamp has the time before the build: what is edited during it is built the next time.
    printf '%s\n' "$compiler" >"$stamp.new"
  fi

  if [[ ${#crates[@]} != 0 ]]; then
    rust_guests
  fi
  if [[ ${#pythons[@]} != 0 ]]; then
    python_tools
    for folder in "${pythons[@]}"; do python_guest "$folder"; done
  fi
  [[ -z $stamp ]] || mv "$stamp.new" "$stamp"
}

rust_guests() {
  local targets target crate
  mapfile -t targets < <(for crate in "${crates[@]}"; do metadata "$crate" target | tr ' ' '\n'; done | sort -u)
  [[ ${#targets[@]} != 0 ]] || fail "no [package.metadata.hotbay] target in: ${crates[*]}"
  choose_toolchain "${targets[@]}"
  say "${#crates[@]} to build, with the toolchain of $toolchain"
  if [[ $toolchain == debian ]]; then
    for target in "${targets[@]}"; do
      compgen -G "$guests/$target/guest/deps/libstd-*.rlib" >/dev/null ||
        say "std for $target is built from its sources first, which takes a minute or two"
    done
  fi
  for crate in "${crates[@]}"; do guest "$crate"; done
}

# bash reads a script as it goes; in a function it has been read to the end before anything runs, so that the file may
# be replaced during a build. `exit` keeps it from reading on.
main "$@"
exit
