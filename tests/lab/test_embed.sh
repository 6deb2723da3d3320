#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# examples/embed.c boots a kernel and prints what it says; see there. Compiled as it says there too,
# against the shared library.
build=${SMOLVM_BUILD:-build}
echo 1..4

ok() { # NAME, TEXT THAT MUST BE IN $out...
	n=$((n + 1)) name=$1
	shift
	for text; do
		case $out in *"$text"*) continue ;; esac
		printf '%s\n' "$out" | tail -n 15 | sed 's/^/# /'
		echo "not ok $n - $name: no '$text'"
		return
	done
	echo "ok $n - $name"
}

out=$(timeout -k 3 60 "$build/examples/embed" "$build/vmlinux" 2>&1)
ok "a kernel in a machine of its own" "Linux version" "Kernel panic - not syncing" \
	"embed: the guest ended in a triple fault, after "
out=$(timeout -k 3 60 "$build/examples/embed" /dev/null 2>&1)
ok "a kernel that is none" "embed: the kernel is not a regular file"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck disable=SC2086 # several flags, as words
out=$(PKG_CONFIG_PATH=$build/meson-uninstalled pkg-config --cflags --libs smolvm-vmm) &&
	out=$(cc -Wall -Wextra -Werror -Iinclude examples/embed.c -o "$tmp/embed" $out 2>&1) &&
	out=$(LD_LIBRARY_PATH=$build/src/vmm timeout -k 3 60 "$tmp/embed" /dev/null 2>&1)
ok "with the shared library" "embed: the kernel is not a regular file"
out=$(readelf -d "$build/src/vmm/libsmolvm-vmm.so" | sed -n 's/.*NEEDED.*\[\(.*\)\]/needs \1/p')
out="$(echo "$out" | grep -c needs): $out"
ok "which links libc alone" "1: needs libc.so"
