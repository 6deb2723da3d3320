#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# examples/embed.c boots a kernel and prints what it says; see there.
build=${SMOLVM_BUILD:-build}
echo 1..2

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
