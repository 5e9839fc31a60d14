# shellcheck shell=bash
# What ./run and ./test share: installing what is missing, finding Rust, building
# static programs, making images. Sourced; the caller has set -euo pipefail and
# stands in the repository's root.

PATH=$PATH:/usr/sbin:/sbin

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
warn() { printf '\033[33mwarning:\033[0m %s\n' "$*" >&2; }
die() { printf '\033[31merror:\033[0m %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if ((EUID == 0)); then "$@"; elif have sudo; then sudo "$@"; else die "this needs root: $*"; fi
}

# until_true SECONDS COMMAND..: polls; status 1 when time is up
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then return 1; fi
    sleep 0.2
  done
}

# ---- Debian packages ------------------------------------------------------------------------------------

installed() { [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == 'install ok installed' ]]; }

# need_packages NAME..: installs those that are missing
need_packages() {
  local name missing=()
  have apt-get || { warn "no apt-get here: taking for granted $*"; return 0; }
  for name in "$@"; do installed "$name" || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  apt_install "${missing[@]}" || { apt_get update -q && apt_install "${missing[@]}"; } ||
    { warn "could not install ${missing[*]}"; return 1; }
}
apt_install() { apt_get install -qy --no-install-recommends "$@"; }
# One at a time: ./test has two strands.
apt_get() { as_root flock /var/lock/tidegate-apt env DEBIAN_FRONTEND=noninteractive apt-get "$@" >&2; }

# need_peer PROGRAM PACKAGE..: installs it without ever starting it as a service of the system
need_peer() {
  local program=$1 policy=/usr/sbin/policy-rc.d placed=; shift
  if have "$program"; then return; fi
  if [[ ! -e $policy ]]; then      # invoke-rc.d and systemd's helper ask it; 101 means no
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    placed=$policy
  fi
  need_packages "$@" || warn "going on without $program"
  if [[ $placed ]]; then as_root rm -f "$placed"; fi
}

# ---- Rust -------------------------------------------------------------------------------------------------

wanted_rust() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

rust_suffices() { # is `rustc` there, with `cargo`, and new enough?
  local version
  have cargo && version=$(rustc -V 2>/dev/null | cut -d' ' -f2) || return 1
  [[ $version && $(printf '%s\n' "$(wanted_rust)" "$version" | sort -V | head -n 1) == "$(wanted_rust)" ]]
}

# need_rust: a rustup toolchain where there is one, else Debian's newest
need_rust() {
  local tool at
  if [[ -d ${CARGO_HOME:-$HOME/.cargo}/bin ]]; then PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH; fi
  need_packages gcc libc6-dev ca-certificates || die "without a C compiler nothing can be built"
  if rust_suffices; then return; fi
  if have rustup && ! have rustc; then rustup toolchain install stable --profile minimal >&2 || true; fi
  if rust_suffices; then return; fi
  # Debian moves these on with the security suite: old package lists would bring an old compiler.
  say "installing Debian's newest Rust"
  apt_get update -q || true
  apt_install rustc-web cargo-web || apt_install rustc cargo || true
  for tool in rustc-web cargo-web; do
    at=$(dpkg -L "$tool" 2>/dev/null | grep -E '/bin/(rustc|cargo)$' | head -n 1) || true
    if [[ $at ]]; then PATH=$(dirname "$at"):$PATH; fi
  done
  hash -r
  rust_suffices || die "needs Rust $(wanted_rust) or newer: install rustup from https://rustup.rs and try again"
}

# ---- building ---------------------------------------------------------------------------------------------

host_triple() { rustc -vV | sed -n 's/^host: //p'; }

# programs_in PROFILE: where `build_static` puts programs
programs_in() { echo "${CARGO_TARGET_DIR:-target}/$(host_triple)/$1"; }

# The variable with compiler flags for this machine's programs only: a build that names its target keeps
# them away from procedural macros, which must be dynamic libraries and know no counters.
rustflags_variable() { echo "CARGO_TARGET_$(host_triple | tr 'a-z-' 'A-Z_')_RUSTFLAGS"; }

# build_static PROFILE PACKAGE..: programs that need nothing else at run time
build_static() {
  local profile=$1 name flags='-C target-feature=+crt-static' packages=(); shift
  for name in "$@"; do packages+=(-p "$name"); done
  if [[ $profile == release ]]; then flags+=$(profile_flags); fi
  env "$(rustflags_variable)=$flags" \
    cargo build --locked --bins --profile "$profile" --target "$(host_triple)" "${packages[@]}" >&2
}

# Where deploy/profile leaves what it counted.
profile_directory() { echo "${CARGO_TARGET_DIR:-target}/counted"; }

# profile_flags: the flag that makes use of it; nothing if there is none by this compiler
profile_flags() {
  local directory counted
  directory=$(profile_directory)
  [[ $(cat "$directory/compiler" 2>/dev/null) == "$(rustc -V)" ]] || return 0
  counted=$(compgen -G "$directory/*.profdata" | head -n 1) || return 0
  echo " -C profile-use=$(readlink -f "$counted")"
}

# profile_merger: the llvm-profdata that belongs to this compiler, installed if need be
profile_merger() {
  local tool version
  tool=$(rustc --print target-libdir)/../bin/llvm-profdata
  if [[ ! -x $tool ]] && have rustup; then rustup component add llvm-tools >&2 || true; fi
  if [[ ! -x $tool ]]; then
    version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    tool=/usr/lib/llvm-$version/bin/llvm-profdata
    [[ -x $tool ]] || need_packages "llvm-$version" || return 1
  fi
  readlink -e "$tool"
}

# image_name PROGRAM NAME [TAG]: by default a tag made from the contents, so that a changed program is a
# changed image and Swarm sees it
image_name() { echo "tidegate/$2:${3:-$(sha256sum "$1" | cut -c1-12)}"; }

# make_images PROGRAMS OUT [TAG]: archives for `docker load` in OUT, their names in OUT/names (proxy,
# demo, director)
make_images() {
  local programs=$1 out=$2 proxy demo director
  proxy=$(image_name "$programs/tidegate-proxy" proxy "${3:-}")
  demo=$(image_name "$programs/demo" demo "${3:-}")
  director=$(image_name "$programs/tidegate-director" director "${3:-}")
  mkdir -p "$out"
  deploy/image.sh "$programs/tidegate-proxy" "$proxy" "$out/proxy.tar" --port 80/tcp --port 443/tcp
  deploy/image.sh "$programs/demo" "$demo" "$out/demo.tar" --port 80/tcp
  deploy/image.sh "$programs/tidegate-director" "$director" "$out/director.tar"
  printf '%s\n' "$proxy" "$demo" "$director" >"$out/names"
}

# ---- the Docker engine --------------------------------------------------------------------------------------

engine_packages=(docker.io iptables iproute2 procps util-linux ca-certificates)

need_engine() {
  if ! have dockerd; then need_packages "${engine_packages[@]}" || return 1; fi
  have docker || need_packages docker-cli || need_packages docker.io
}

# dk ARG..: the Docker client, through sudo where the user may not
dk() {
  if ((EUID == 0)) || [[ -w /var/run/docker.sock ]]; then docker "$@"; else as_root docker "$@"; fi
}
engine_answers() { dk version; }

# Inside a container the root of the cgroup tree (version 2) holds the container's own processes, and a
# group with processes may not hand controllers to its children, which every engine in there needs. So
# they move into a leaf. Only a root that is not the kernel's own has a `cgroup.type`.
free_cgroup_root() {
  local pid root=/sys/fs/cgroup
  [[ -e $root/cgroup.type && -w $root/cgroup.subtree_control ]] || return 0
  [[ ! -d /run/systemd/system && ! $(<"$root/cgroup.subtree_control") ]] || return 0
  mkdir -p "$root/init"
  while read -r pid; do echo "$pid" >"$root/init/cgroup.procs"; done <"$root/cgroup.procs" 2>/dev/null || true
}

# stamp PID: "pid start-time", which names one process for good; ids alone are reused
stamp() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  echo "$1 ${fields[19]}"
}
same_process() { [[ $(stamp "$1") == "$1 $2" ]]; }

# end_process PID START-TIME: SIGTERM, then patience, then SIGKILL; nothing if it is another process by now
end_process() {
  same_process "$1" "$2" || return 0
  kill -TERM "$1" 2>/dev/null || as_root kill -TERM "$1"
  if until_true 30 process_gone "$1" "$2"; then return; fi
  as_root kill -KILL "$1"
}
process_gone() { ! same_process "$1" "$2"; }
