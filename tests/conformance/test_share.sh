#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shared-folder server under a real kernel without a machine: mounted on this host through
# /dev/fuse, in a mount namespace of its own. Needs root.
# time limit: 300 s
# shellcheck disable=SC2317 # functions are called by name

root=$(cd "$(dirname "$0")/../.." && pwd)
case ${SMOLVM_BUILD:-build} in
/*) tools=$SMOLVM_BUILD/tests/tools ;;
*) tools=$root/${SMOLVM_BUILD:-build}/tests/tools ;;
esac

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

if [ "${SHARE_TEST_INSIDE:-}" = "" ]; then
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
	unshare -m true 2>/dev/null || skip_all "needs a mount namespace"
	[ -x "$tools/fusehost" ] || ninja -C "${tools%/tests/tools}" --quiet \
		tests/tools/fusehost tests/tools/posixfs tests/tools/fsx >&2 || exit 1
	SHARE_TEST_INSIDE=1 exec unshare -m --propagation private "$0"
fi

work=$(mktemp -d) || exit 1
chmod 755 "$work"
n=0
bad=0

clean() {
	umount "$work/mnt" "$work/file" 2>/dev/null
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' INT TERM

# result NAME EXIT-CODE
result() {
	n=$((n + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $n - $1"
	else
		bad=1
		echo "not ok $n - $1"
		sed 's/^/# /' "$work/log" | tail -n 40
	fi
}

# on NAME "OPTIONS" FUNCTION...: run it on a newly mounted, empty share; $S and $M are its two sides
on() {
	name=$1
	options=$2
	shift 2
	rm -rf "$work/src"
	mkdir -p "$work/src" "$work/mnt"
	S=$work/src
	M=$work/mnt
	case $options in *-u*) chown 65534:65534 "$S" ;; esac
	# shellcheck disable=SC2086 # options are words
	if "$tools/fusehost" $options "$S" "$M" >"$work/log" 2>&1; then
		(set -e; "$@") >"$work/log" 2>&1
		code=$?
		umount "$M" || code=1
	else
		code=1
	fi
	result "$name" "$code"
}

verify() {
	fio --name=v --directory="$M" --size=20m --verify=crc32c --verify_fatal=1 --do_verify=1 \
		--verify_state_save=0 --rw=randwrite "$@"
}

# Every open() sees what the host wrote before it; names come and go.
host_changes() {
	i=0
	while [ "$i" -lt 60 ]; do
		i=$((i + 1))
		line=$(head -c $((i * 3)) /dev/zero | tr '\0' x)
		echo "$line $i" >"$S/f"
		ls -l "$M" >/dev/null
		[ "$(cat "$M/f")" = "$line $i" ]
		echo "$i" >"$S/f"
		[ "$(cat "$M/f")" = "$i" ]
		echo "replaced $i" >"$S/new"
		mv "$S/new" "$S/f"
		[ "$(cat "$M/f")" = "replaced $i" ]
		echo "guest $i" >"$M/g"
		[ "$(cat "$S/g")" = "guest $i" ]
		[ ! -e "$M/later" ]
		touch "$S/later"
		[ -e "$M/later" ]
		rm "$S/later"
		[ ! -e "$M/later" ]
	done
}

# Both sides append to one log: no line is lost.
both_append() {
	: >"$S/log"
	(i=0; while [ "$i" -lt 300 ]; do i=$((i + 1)); echo "host $i"; done >>"$S/log") &
	i=0
	while [ "$i" -lt 300 ]; do
		i=$((i + 1))
		echo "guest $i" >>"$M/log"
	done
	wait
	[ "$(grep -c '^host [0-9]*$' "$S/log")" = 300 ]
	[ "$(grep -c '^guest [0-9]*$' "$S/log")" = 300 ]
}

# More files than descriptors, by far.
many_files() {
	for d in $(seq 200); do
		mkdir "$S/$d"
		(cd "$S/$d" && seq -f 'file%g' 100 | xargs touch)
	done
	[ "$(find "$M" -type f -size 0 | wc -l)" = 20000 ]
	find "$M" -type f -exec cat {} + | cmp - /dev/null
	mv "$M/7" "$M/moved"
	find "$M" -name file5 -exec sh -c 'for f; do echo x >"$f" || exit 1; done' sh {} +
	[ "$(find "$S" -size +0 -type f | wc -l)" = 200 ]
	find "$M" -mindepth 1 -delete
	[ "$(ls "$S")" = "" ]
}

copy_tree() {
	cp -a "$root/src" "$M/"
	diff -r "$root/src" "$M/src"
	(cd "$root" && tar cf - src) | tar xf - -C "$M"
	(cd "$M" && tar cf - src) | tar df - -C "$root"
	rm -r "$M/src"
	[ "$(ls "$S")" = "" ]
}

# As root of the guest, for a host user without privilege.
mapped_owner() {
	install -m 4755 -o root -g root /bin/true "$M/prog"
	[ "$(stat -c '%u:%g %a' "$S/prog")" = "65534:65534 4755" ]
	[ "$(stat -c '%u:%g' "$M/prog")" = "0:0" ]
	if chown 12 "$M/prog"; then
		return 1
	fi
	rm "$M/prog"
	copy_tree
}

refuses_writes() {
	echo x >"$S/f"
	[ "$(cat "$M/f")" = x ]
	for c in "touch $M/new" "rm $M/f" "mkdir $M/d" "chmod 600 $M/f" "ln $M/f $M/l" \
		"cp /bin/true $M/f" "mv $M/f $M/g" "truncate -s 0 $M/f"; do
		if $c; then
			return 1
		fi
	done
	[ "$(cat "$S/f")" = x ]
}

single_file() {
	echo one >"$S/f"
	touch "$work/file"
	"$tools/fusehost" "$S/f" "$work/file"
	[ "$(cat "$work/file")" = one ]
	echo two >"$work/file"
	echo three >>"$work/file"
	[ "$(cat "$S/f")" = "two
three" ]
	umount "$work/file"
}

on "POSIX" "" "$tools/posixfs" "$work/mnt"
on "POSIX, no privilege" "-u 65534" "$tools/posixfs" -m "$work/mnt"
on "POSIX, 64 descriptors" "-n 64" "$tools/posixfs" "$work/mnt"
on "fsx" "" "$tools/fsx" -n 3000 "$work/mnt/f"
on "fsx, no privilege, 4 MB" "-u 65534" "$tools/fsx" -n 600 -z 4000000 "$work/mnt/f"
if command -v fio >/dev/null; then
	on "fio verify" "" verify --bs=4k --ioengine=psync
	on "fio verify, mmap" "" verify --bs=4k --ioengine=mmap
	on "fio verify, direct" "" verify --bs=64k --ioengine=psync --direct=1
fi
on "changes of the host" "" host_changes
on "both sides append" "" both_append
on "20,000 files, 256 descriptors" "-n 256" many_files
on "cp, tar, rm" "" copy_tree
on "owner without privilege" "-u 65534" mapped_owner
on "read-only" "-r" refuses_writes
on "single file" "" single_file
echo "1..$n"
exit $bad
