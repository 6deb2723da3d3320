#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds and runs the fuzz targets, with clang's libFuzzer, ASan and UBSan, in build-fuzz/.
#
#   fuzz.sh SECONDS [TARGET...]       build, then run each target that long (two at a time)
#   fuzz.sh --list | --build | --run SECONDS TARGET
#
# Seeds are tests/fuzz/corpus/TARGET/; what a run finds is kept in build-fuzz/corpus/TARGET/, inputs
# that fail in build-fuzz/failed/TARGET-*.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
build="build-fuzz"

targets() { # the names in tests/fuzz/meson.build
	sed -n "/^fuzz_targets = {/,/^}/s/^ *'\([a-z0-9_]*\)':.*/\1/p" tests/fuzz/meson.build
}

build() {
	local t programs=()
	[ -f $build/build.ninja ] || CC=clang meson setup $build -Dfuzz=true \
		-Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link
	for t in $(targets); do
		programs+=("tests/fuzz/fuzz_$t")
	done
	ninja -C $build --quiet "${programs[@]}"
}

run() { # SECONDS TARGET
	local kept=$build/corpus/$2 failed=$build/failed log
	log=$build/$2.log
	mkdir -p "$kept" $failed "tests/fuzz/corpus/$2"
	if ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		"$build/tests/fuzz/fuzz_$2" -max_total_time="$1" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$failed/$2-" "$kept" "tests/fuzz/corpus/$2" \
		>"$log" 2>&1; then
		echo "# $2: $(grep -o 'number_of_executed_units: .*' "$log" || true)"
		echo "ok 1 - $2 for $1 s"
	else
		tail -n 40 "$log" | sed 's/^/# /'
		echo "not ok 1 - $2 for $1 s"
	fi
	echo "1..1"
}

case ${1:-} in
--list) targets ;;
--build) build ;;
--run) run "$2" "$3" ;;
[0-9]*)
	seconds=$1
	shift
	[ $# -gt 0 ] || mapfile -t all < <(targets)
	build
	printf '%s\n' "${@:-${all[@]}}" | xargs -P2 -I{} "$0" --run "$seconds" {} |
		grep -v '^1\.\.1$' | tee $build/results
	if grep -q '^not ok' $build/results; then exit 1; fi
	;;
*)
	echo "usage: fuzz.sh SECONDS [TARGET...] | --list | --build | --run SECONDS TARGET" >&2
	exit 2
	;;
esac
