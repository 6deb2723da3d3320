#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the guest kernel from the distribution's kernel source package, once.
#
#   build.sh OUTPUT          vmlinux is put at OUTPUT; a kernel built before is reused
#   build.sh --key           prints the cache key and ends
#
# The cache key is a hash of the source package's version, the configuration, the patches and the
# compiler; the cache is ${SMOLVM_KERNEL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/smolvm/kernel}.
# SMOLVM_KERNEL_SOURCE=/path/linux-x.y.tar.xz takes that source instead of a package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SMOLVM_KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/smolvm/kernel}
keep=3 # kernels left in the cache

die() { echo "kernel: $*" >&2; exit 1; }
say() { echo "kernel: $*" >&2; }

work=
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- which source ------------------------------------------------------------------------------
# A private apt state: the machine's own package lists stay as they are, and root is not needed.
apt_private() { # CMD...
	"$@" -oDir::Etc::SourceList="$apt/sources.list" -oDir::Etc::SourceParts=/dev/null \
		-oDir::State::Lists="$apt/lists" -oDir::Cache="$apt/cache" -oAPT::Sandbox::User=root
}

backports_mirror() { # the mirror that this machine already uses for its main suite
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources \
		/etc/apt/sources.list.d/*.list 2>/dev/null |
		sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' |
		grep -E '/debian/?$' | head -n1 || true
}

newest_version() { # CMD...: of $package; nothing where it is unknown
	"$@" show "$package" 2>/dev/null | sed -n 's/^Version: //p' | head -n1 || true
}

choose_backport() { # Debian 12's newer kernels; from the mirror that the machine uses anyway
	local mirror
	mirror=$(backports_mirror)
	[ -n "$mirror" ] || return 1
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
		"$mirror bookworm-backports main" >"$apt/sources.list"
	package=linux-source-6.12 fetch=backports
	version=$(newest_version apt_private apt-cache)
	if [ -z "$version" ]; then
		apt_private apt-get update -qq >&2 || true
		version=$(newest_version apt_private apt-cache)
	fi
	[ -n "$version" ]
}

choose_source() { # sets: package version fetch
	package='' version='' fetch=''
	if [ -n "${SMOLVM_KERNEL_SOURCE:-}" ]; then
		[ -r "$SMOLVM_KERNEL_SOURCE" ] || die "cannot read $SMOLVM_KERNEL_SOURCE"
		package=file version=$(sha256sum "$SMOLVM_KERNEL_SOURCE" | cut -c1-16) fetch=file
		return
	fi
	command -v apt-get >/dev/null ||
		die "no apt-get here: set SMOLVM_KERNEL_SOURCE to a Linux 6.12 source archive"
	# shellcheck disable=SC1091
	. /etc/os-release
	apt=$cache/apt-${VERSION_CODENAME:-unknown}
	if [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ]; then
		choose_backport && return
		say "no linux-source-6.12 in backports; looking for another kernel source"
	fi
	# The nearest to 6.12 that the distribution has.
	package=$(apt-cache search --names-only '^linux-source-[0-9]+\.[0-9.]+$' |
		awk '{print $1}' |
		awk -F'[-.]' '{d = ($3 * 100 + $4) - 612; print (d < 0 ? -d : d), $0}' |
		sort -n | awk 'NR == 1 {print $2}')
	[ -n "$package" ] ||
		die "no linux-source package (run 'apt-get update', or set SMOLVM_KERNEL_SOURCE)"
	version=$(newest_version apt-cache) fetch=distribution
}

fetch_source() { # DIR: the source archive's path is left in $archive
	case $fetch in
	file) archive=$SMOLVM_KERNEL_SOURCE; return ;;
	backports) (cd "$1" &&
		apt_private apt-get download -qq "$package=$version" >&2) ;;
	distribution) (cd "$1" &&
		apt-get download -qq -oAPT::Sandbox::User=root "$package=$version" >&2) ;;
	esac || {
		# Perhaps an old list: ask anew the next time.
		[ $fetch = backports ] && rm -rf "$apt/lists"
		die "cannot download $package $version"
	}
	dpkg-deb -x "$1"/linux-source-*.deb "$1/deb"
	rm -f "$1"/linux-source-*.deb
	archive=$(find "$1/deb/usr/src" -name 'linux-source-*.tar.*' | head -n1)
	[ -n "$archive" ] || die "$package holds no source archive"
}

# --- building ----------------------------------------------------------------------------------
apply_patches() { # in the source tree; a part that does not fit is left out, and said
	local p
	for p in "$here"/patches/*.patch; do
		if patch -p1 -s -f --dry-run <"$p" >/dev/null 2>&1; then
			patch -p1 -s -f <"$p"
		else
			say "${p##*/} does not fit $package $version: built without it"
		fi
	done
}

progress() { # EXPECTED: counts the lines of make's output
	awk -v total="$1" -v tty="$([ -t 2 ] && echo 1 || echo 0)" '
		{ n++; p = int(n * 100 / total); if (p > 99) p = 99 }
		tty && p != last { printf "\rkernel: building, %d %%  ", p > "/dev/stderr"
			last = p }
		!tty && int(p / 20) != int(last / 20) {
			printf "kernel: building, %d %%\n", p > "/dev/stderr" }
		!tty { last = p }
		END { if (tty) printf "\r\033[K" > "/dev/stderr" }'
}

build() { # OUTPUT
	local tool missing=()
	for tool in gcc make flex bison bc patch dpkg-deb xz; do
		command -v $tool >/dev/null || missing+=("$tool")
	done
	[ ${#missing[@]} = 0 ] ||
		die "missing to build a kernel: ${missing[*]} ('make deps' installs them)"
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/build.XXXXXX")
	say "building the guest kernel from $package $version; this takes some minutes, once"
	fetch_source "$work"
	mkdir "$work/src" "$work/out"
	tar -xf "$archive" -C "$work/src" --strip-components=1
	cd "$work/src"
	apply_patches
	export KBUILD_BUILD_USER=smolvm KBUILD_BUILD_HOST=smolvm
	export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC'
	make -s O="$work/out" tinyconfig >"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		die "tinyconfig failed"
	}
	./scripts/kconfig/merge_config.sh -O "$work/out" "$work/out/.config" \
		"$here/smolvm.config" >>"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		die "the configuration cannot be merged"
	}
	make O="$work/out" -j"$(nproc)" vmlinux 2>"$work/errors" | tee -a "$work/log" |
		progress 2150 || {
		tail -n 20 "$work/errors" >&2
		cp "$work/errors" "$cache/failed.log"
		die "the build failed; all of it is in $cache/failed.log"
	}
	strip -o "$work/vmlinux" "$work/out/vmlinux"
	cp "$work/out/.config" "$1.config"
	mv "$work/vmlinux" "$1"
}

choose_source
key=$( { echo "$package $version"; gcc --version | head -n1
	cat "$here/smolvm.config" "$here"/patches/*.patch
	sed -n '/^build()/,/^}/p' "${BASH_SOURCE[0]}"; } | sha256sum | cut -c1-16)
if [ "${1:-}" = --key ]; then echo "$key"; exit; fi
[ $# = 1 ] || die "usage: build.sh OUTPUT | --key"
output=$(realpath -m "$1")

mkdir -p "$cache"
image=$cache/vmlinux-$key
exec 9>"$cache/lock"
flock -n 9 || { say "another build is running; waiting for it"; flock 9; }
if [ ! -s "$image" ]; then
	build "$image"
	# shellcheck disable=SC2012 # names of our own making
	ls -t "$cache"/vmlinux-???????????????? | tail -n +$((keep + 1)) | while read -r old; do
		rm -f "$old" "$old.config"
	done
fi
cd / && touch "$image"
mkdir -p "$(dirname "$output")"
cp "$image" "$output.new"
mv "$output.new" "$output"
