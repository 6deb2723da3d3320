#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command on a machine that has a working /dev/kvm, on a host that need not have one.
#
#   lab.sh COMMAND [ARGUMENT...]
#
# The machine is one of smolvm's own: emulated by QEMU, with a processor that has virtualization
# (sandbox run --nested). It sees this host's /usr and this source tree, both read-only and at the
# same places, and the cache of kernels and test images; everything else is its own and gone
# afterwards. The command runs as root in the source tree; output and exit code are its own.
#
#   SMOLVM_BUILD  the build to use, in the tree or an absolute path (build)
#   LAB_CPUS      virtual CPUs (1; each of more slows all of them down)
#   LAB_MEM       memory (3g)
#   LAB_TIMEOUT   limit (20m)
#   LAB_FLAGS     more flags of sandbox run
set -euo pipefail

die() { echo "lab: $*" >&2; exit 125; }
[ $# -gt 0 ] || die "usage: lab.sh COMMAND [ARGUMENT...]"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${SMOLVM_BUILD:-build}
case $build in /*) ;; *) build=$root/$build ;; esac
cache=${XDG_CACHE_HOME:-$HOME/.cache}/smolvm
if [ ! -x "$build/smolvm" ] || [ ! -e "$build/vmlinux" ]; then
	die "nothing is built in $build; run 'make'"
fi

# What is outside /usr on a system whose /bin and /lib are links into it, and the few files of /etc
# that programs look for.
make_root() { # FOLDER
	local name
	mkdir -p "$1"/{usr,etc,proc,sys,dev,tmp,run,root,var/tmp,home,mnt}
	for name in bin sbin lib lib64; do
		[ -L "/$name" ] || die "/$name is no link into /usr on this host"
		ln -sfn "usr/$name" "$1/$name"
	done
	for name in passwd group ld.so.cache ld.so.conf mke2fs.conf alternatives; do
		[ ! -e "/etc/$name" ] || cp -a "/etc/$name" "$1/etc/"
	done
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/smolvm-lab.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
make_root "$tmp/root"

flags=(--backend qemu --nested --cpus "${LAB_CPUS:-1}" --mem "${LAB_MEM:-3g}"
	--timeout "${LAB_TIMEOUT:-20m}" --hostname lab
	-v /usr:/usr:ro -v "$root:$root:ro" -w "$root"
	-e PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin -e HOME=/root
	-e SMOLVM_BUILD="$build" -e SMOLVM_LAB=1)
case $build/ in "$root"/*) ;; *) flags+=(-v "$build:$build:ro") ;; esac
[ ! -d "$cache" ] || flags+=(-v "$cache:/root/.cache/smolvm:ro")
for name in ${LAB_ENV:-}; do [ -z "${!name+x}" ] || flags+=(-e "$name=${!name}"); done
# shellcheck disable=SC2206 # several flags, as words
flags+=(${LAB_FLAGS:-})

# Users without rights are let at /dev/kvm, as they are on a desktop.
SMOLVM_HOME=$tmp/home "$build/smolvm" sandbox run "${flags[@]}" "$tmp/root" -- \
	/bin/sh -c 'chmod 666 /dev/kvm && chmod 1777 /tmp && exec "$@"' sh "$@" &
pid=$!
trap 'kill -INT $pid 2>/dev/null; wait $pid; exit 130' INT
trap 'kill -TERM $pid 2>/dev/null; wait $pid; exit 143' TERM
rc=0
wait $pid || rc=$?
exit $rc
