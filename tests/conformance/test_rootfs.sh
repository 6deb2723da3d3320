#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# time limit: 300 s
# Other people's judges of the root file system writer: what umoci unpacks and what the image holds
# must be the same, and erofs-utils and the kernel must accept the image.
#
#	test_rootfs.sh [TOOLS_DIR]      where mkrootfs and erofs_list are
#
# SMOLVM_TEST_DEBIAN=0 leaves out the image made from Debian's packages (mmdebstrap, a minute).
# Words are split on purpose, and functions are called through a trap or by name.
# shellcheck disable=SC1091,SC2015,SC2046,SC2086,SC2317
set -u
here=$(cd "$(dirname "$0")" && pwd)
tools=$(cd "$here/../.." && cd "${1:-${SMOLVM_BUILD:-build}/tests/tools}" && pwd) || exit 1
manifest=$here/../tools/manifest.py
work=$(mktemp -d "${TMPDIR:-/tmp}/smolvm-rootfs.XXXXXX")
mounted=
failed=0
tests=0

cleanup() {
	[ -z "$mounted" ] || umount "$mounted"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ok() { tests=$((tests + 1)); echo "ok - $1"; }
skip() { tests=$((tests + 1)); echo "ok - $1 # SKIP $2"; }
not_ok() {
	tests=$((tests + 1))
	failed=1
	echo "not ok - $1"
	[ ! -s "$work/log" ] || head -40 "$work/log" | cut -c 1-300 | sed 's/^/# /'
}
# check NAME COMMAND...
check() {
	what=$1
	shift
	: >"$work/log"
	if "$@" >"$work/log" 2>&1; then ok "$what"; else not_ok "$what"; fi
}
have() { command -v "$1" >/dev/null 2>&1; }

# A directory that no entry made has no time of its own: whatever the other side says is right.
# same OURS THEIRS
same() {
	awk 'NR == FNR { if ($2 == "dir" && $6 == "0.000000000") implied[$1] = 1; next }
		$1 in implied { $6 = "implied" } { print }' "$1" "$2" >"$2.cmp"
	awk '$2 == "dir" && $6 == "0.000000000" { $6 = "implied" } { print }' "$1" >"$1.cmp"
	diff "$1.cmp" "$2.cmp"
}

# The layers of an OCI layout, bottom first.
blobs() {
	python3 - "$1" <<'EOF'
import json, sys
d = sys.argv[1]
def blob(x):
    return d + "/blobs/" + x["digest"].replace(":", "/")
m = json.load(open(blob(json.load(open(d + "/index.json"))["manifests"][0])))
print(" ".join(blob(l) for l in m["layers"]))
EOF
}

accept() { # NAME IMAGE
	check "$1: fsck.erofs accepts the image" fsck.erofs --extract "$2"
	check "$1: dump.erofs reads it" dump.erofs "$2"
}

in_kernel() { # NAME IMAGE THEIRS
	mkdir -p "$work/mnt"
	if ! mount -t erofs -o ro,loop "$2" "$work/mnt" 2>/dev/null; then
		skip "$1: the kernel sees the same" "it does not mount erofs here"
		return
	fi
	mounted=$work/mnt
	python3 "$manifest" "$mounted" -x security.selinux >"$work/kernel.man"
	umount "$mounted"
	mounted=
	check "$1: the kernel sees the same" diff "$work/kernel.man" "$3"
}

# The layers in $work/NAME/*.tar: through umoci, and through ours.
compare() {
	name=$1
	dir=$work/$name
	umoci init --layout "$dir/oci" && umoci new --image "$dir/oci:x" || return 1
	for layer in "$dir"/*.tar; do
		umoci raw add-layer --image "$dir/oci:x" "$layer" || return 1
	done
	umoci unpack --image "$dir/oci:x" "$dir/bundle" >"$work/log" 2>&1 || return 1
	"$tools/mkrootfs" "$dir/image" $(blobs "$dir/oci") 2>"$work/log" || return 1
	"$tools/erofs_list" "$dir/image" >"$dir/ours" 2>"$work/log" || return 1
	python3 "$manifest" "$dir/bundle/rootfs" -x security.selinux >"$dir/theirs"
}

all_of() {
	name=$1
	if ! compare "$name"; then
		not_ok "$name: imported"
		return
	fi
	ok "$name: imported"
	check "$name: the same as umoci unpacks" same "$dir/ours" "$dir/theirs"
	accept "$name" "$dir/image"
	in_kernel "$name" "$dir/image" "$dir/ours"
	check "$name: uncompressed layers give the same bytes" sh -c \
		"'$tools/mkrootfs' '$dir/again' '$dir'/*.tar && cmp '$dir/image' '$dir/again'"
	rm -f "$dir/again"
}

for tool in umoci python3 fsck.erofs dump.erofs; do
	if ! have "$tool"; then
		skip "root file system conformance" "$tool is not installed"
		echo "1..$tests"
		exit 0
	fi
done
if [ "$(id -u)" != 0 ]; then
	skip "root file system conformance" "umoci makes devices and owners only as root"
	echo "1..$tests"
	exit 0
fi

mkdir "$work/nasty"
python3 "$here/nasty_layers.py" "$work/nasty" || exit 1
all_of nasty

# The unpacked tree, taken as a directory, is the same image again.
dir=$work/nasty
"$tools/mkrootfs" "$dir/tree" "$dir/bundle/rootfs" &&
	"$tools/erofs_list" "$dir/tree" >"$dir/tree.man"
check "nasty: taken over as a directory" diff "$dir/tree.man" "$dir/theirs"

if have skopeo; then
	skopeo copy -q --dest-compress-format zstd "oci:$dir/oci:x" "oci:$dir/zstd:x" \
		>"$work/log" 2>&1 &&
		"$tools/mkrootfs" "$dir/again" $(blobs "$dir/zstd")
	check "nasty: recompressed by skopeo, the same bytes" cmp "$dir/image" "$dir/again"
else
	skip "nasty: recompressed by skopeo" "skopeo is not installed"
fi

for filter in gzip bzip2 xz zstd lz4 lzma; do
	if ! have "$filter"; then
		skip "compressed by $filter" "it is not installed"
		continue
	fi
	"$filter" -c <"$dir/2.tar" >"$dir/2.$filter"
	check "compressed by $filter: the same bytes" sh -c "'$tools/mkrootfs' '$dir/again' \
		'$dir/1.tar' '$dir/2.$filter' '$dir/3.tar' && cmp '$dir/image' '$dir/again'"
	head -c $(($(wc -c <"$dir/2.$filter") * 2 / 3)) "$dir/2.$filter" >"$dir/cut"
	check "truncated $filter is refused" sh -c "! '$tools/mkrootfs' '$dir/again' '$dir/cut'"
done

# GNU tar's ways to store holes.
truncate -s 3M "$work/holes"
printf 'a' | dd of="$work/holes" bs=1 seek=1000000 conv=notrunc 2>/dev/null
printf 'end' >>"$work/holes"
for version in gnu 0.0 0.1 1.0; do
	case $version in
	gnu) form="--format=gnu" ;;
	*) form="--format=posix --sparse-version=$version" ;;
	esac
	tar -C "$work" $form -S -cf "$work/sparse.tar" holes
	"$tools/mkrootfs" -p "$work/sparse" "$work/sparse.tar"
	"$tools/erofs_list" "$work/sparse" | awk '$1 == "/holes" { print $7, $9 }' \
		>"$work/sparse.ours"
	python3 -c "import zlib, sys
d = open(sys.argv[1], 'rb').read()
print(len(d), '%08x' % zlib.crc32(d))" "$work/holes" >"$work/sparse.theirs"
	check "sparse file, $version" cmp "$work/sparse.ours" "$work/sparse.theirs"
done

if [ "${SMOLVM_TEST_DEBIAN:-1}" = 1 ] && have mmdebstrap; then
	mkdir "$work/debian"
	codename=$(. /etc/os-release; echo "$VERSION_CODENAME")
	mmdebstrap --quiet --variant=minbase --include=python3-minimal,iputils-ping "$codename" \
		"$work/debian/1.tar" 2>"$work/log" && all_of debian || not_ok "debian"
else
	skip "debian" "mmdebstrap is not installed, or SMOLVM_TEST_DEBIAN=0"
fi

echo "1..$tests"
exit $failed
