#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The static checks, as one TAP test each.
#
#   lint.sh CHECK...   checks: source headers shell python cppcheck tidy clang
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
build=${SMOLVM_BUILD:-build}
flags=(-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc)

sources() { # ENDING FOLDER...
	local ending=$1
	shift
	git ls-files -co --exclude-standard -- "$@" | grep -E "\\.$ending\$" | while read -r f; do
		[ -f "$f" ] && echo "$f"
	done | sort -u
}

check_source() { tools/check_source.py; }

# Each header compiles alone; the public ones in plain C99 and in C++ too.
check_headers() {
	local header rc=0
	for header in $(sources h src include); do
		gcc -std=gnu11 -Wall -Wextra -Werror "${flags[@]}" -fsyntax-only -x c \
			-include "$header" /dev/null || rc=1
	done
	for header in $(sources h include); do
		gcc -std=c99 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c \
			-include "$header" /dev/null || rc=1
		! command -v clang >/dev/null || clang -x c++ -std=c++11 -pedantic -Wall -Wextra \
			-Werror -Iinclude -fsyntax-only -include "$header" /dev/null || rc=1
	done
	return "$rc"
}

check_shell() {
	command -v shellcheck >/dev/null || { echo "shellcheck is not installed"; return 77; }
	local f scripts=()
	for f in $(git ls-files -co --exclude-standard); do
		[ -f "$f" ] && head -n1 "$f" | grep -qaE '^#!.*\b(ba)?sh\b' && scripts+=("$f")
	done
	shellcheck --exclude=SC2317,SC1091,SC2015 "${scripts[@]}"
}

check_python() {
	local f rc=0
	for f in $(sources py tests tools); do
		python3 -W error -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$f" ||
			rc=1
	done
	return "$rc"
}

# What is suppressed: leaks, since it does not know the cleanup attribute.
check_cppcheck() {
	local all
	mapfile -t all < <(sources c src examples)
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--error-exitcode=1 --suppress=missingIncludeSystem --suppress=unknownMacro \
		--suppress=internalAstError --suppress=memleak --suppress=resourceLeak -j2 \
		"${flags[@]}" "${all[@]}" 2>&1
}

tidy() { # FILE...
	printf '%s\0' "$@" | xargs -0 -P2 -n4 clang-tidy --quiet -p "$build" \
		--extra-arg=-Wno-unknown-warning-option "${extra[@]}" 2>/dev/null |
		sed -n "s,^.*/\.\./src/,src/,; s,^\.\./src/,src/,; / error: /p"
	return "${PIPESTATUS[1]}"
}

check_tidy() {
	[ -f "$build/compile_commands.json" ] || { echo "$build is not set up"; return 1; }
	local all extra=() rc=0
	mapfile -t all < <(sources c src | grep -vx src/base/err.c | while read -r f; do
		grep -qF "$f\"" "$build/compile_commands.json" && echo "$f"
	done)
	tidy src/base/err.c || rc=1
	extra=(--extra-arg=-include --extra-arg="$PWD/tools/analyzer.h")
	tidy "${all[@]}" || rc=1
	[ "$rc" = 0 ] || echo "more: clang-tidy -p $build --extra-arg=-include" \
		"--extra-arg=$PWD/tools/analyzer.h FILE"
	return "$rc"
}

# Everything compiles with clang too, and what it warns of is an error.
check_clang() {
	[ -f build-clang/build.ninja ] || CC=clang meson setup build-clang || return 1
	ninja -C build-clang all meson-test-prereq
}

n=0 failed=0
for check in "$@"; do
	n=$((n + 1))
	out=$("check_$check" 2>&1)
	rc=$?
	case $rc in
	0) echo "ok $n - $check" ;;
	77) echo "ok $n - $check # SKIP ${out##*$'\n'}" ;;
	*)
		failed=1
		echo "not ok $n - $check"
		printf '%s\n' "$out" | tail -n 60 | sed 's/^/# /'
		;;
	esac
done
echo "1..$n"
exit $failed
