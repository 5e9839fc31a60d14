#!/usr/bin/env bash
# Makes an image archive for `docker load` out of one static program: no base
# image, no registry, no build engine, the same bytes for the same input.
#
#   deploy/image.sh PROGRAM NAME:TAG OUT.tar [--port PORT/tcp].. [--env KEY=VALUE].. [--stop-signal SIG]
#
# In the image: the program at /PROGRAM's base name, the machine's bundle of
# certificate authorities, /etc/passwd with root and nobody, and an empty /tmp.
# The platform is read from the program itself, so a cross-built one works too.
set -euo pipefail

die() { echo "image: $*" >&2; exit 1; }
(($# >= 3)) || { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
program=$1 tag=$2 out=$3; shift 3
ports='' env='"PATH=/","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"' signal=SIGTERM
quoted() { # a JSON string; control characters have no business here
  local text=${1//\\/\\\\}
  [[ $text != *[[:cntrl:]]* ]] || die "a control character in '$1'"
  printf '"%s"' "${text//\"/\\\"}"
}
while (($#)); do
  (($# >= 2)) || die "$1 needs a value"
  case $1 in
    --port) ports+="${ports:+,}$(quoted "$2"):{}" ;;
    --env) env+=",$(quoted "$2")" ;;
    --stop-signal) signal=$2 ;;
    *) die "what is $1?" ;;
  esac
  shift 2
done

[[ -f $program ]] || die "$program is not there"
[[ $(head -c 4 "$program" | tail -c 3) == ELF ]] || die "$program is not an ELF program"
# A dynamic program asks for a loader that an empty image does not have.
if grep -aqE '/lib(64)?/ld-[a-z0-9.-]+' <(head -c 4096 "$program"); then die "$program is not linked statically"; fi
case $(od -An -tu2 -j18 -N2 "$program" | tr -d ' ') in   # e_machine, little-endian
  62) platform='"architecture":"amd64"' ;;
  183) platform='"architecture":"arm64","variant":"v8"' ;;
  40) platform='"architecture":"arm","variant":"v7"' ;;
  *) die "$program is for a machine that is not known here" ;;
esac
bundle=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
[[ -f $bundle ]] || die "no CA bundle at $bundle: install ca-certificates"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root entry=/$(basename "$program")
mkdir -p "$root/etc/ssl/certs" "$root/tmp"
cp "$program" "$root$entry" && chmod 755 "$root$entry"
cp "$bundle" "$root/etc/ssl/certs/ca-certificates.crt" && chmod 644 "$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
chmod 1777 "$root/tmp"
chmod 755 "$root" "$root"/etc{,/ssl,/ssl/certs} && chmod 644 "$root"/etc/{passwd,group}

pack() { tar --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner --format=ustar -cf "$@"; }
pack "$work/layer.tar" -C "$root" .
layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
printf '{%s,"os":"linux","config":{"Entrypoint":[%s],"Env":[%s],"ExposedPorts":{%s},"StopSignal":%s,"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"tidegate"}]}' \
  "$platform" "$(quoted "$entry")" "$env" "$ports" "$(quoted "$signal")" "$layer" >"$work/config.json"
printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "$(quoted "$tag")" >"$work/manifest.json"
pack "$work/image.tar" -C "$work" manifest.json config.json layer.tar
mkdir -p "$(dirname "$out")"
mv "$work/image.tar" "$out"
