#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes sure that what smolvm needs is installed.
#
#   deps.sh GROUP...         groups: build run kernel test
#   deps.sh --list GROUP...  only prints the packages of this system's package manager
#
# Each thing is looked for itself (a command, a library), not its package: nothing is installed,
# and root is not asked for, where it is there already. On Debian and Ubuntu what is missing is
# installed with apt-get, through sudo when not root. Elsewhere the list is printed, and it is an
# error.
set -euo pipefail

# group; how to find it; package in: Debian and Ubuntu, Fedora, Arch, Homebrew ("-": not there)
table='
build  cmd:gcc                gcc               gcc                   gcc               -
build  file:stdio.h           libc6-dev         glibc-devel           glibc             -
build  cmd:meson              meson             meson                 meson             meson
build  cmd:ninja              ninja-build       ninja-build           ninja             ninja
build  cmd:pkg-config         pkg-config        pkgconf-pkg-config    pkgconf           pkgconf
build  cmd:python3            python3           python3               python            python3
build  cmd:musl-gcc           musl-tools        musl-gcc              musl              -
build  file:linux/fuse.h      linux-libc-dev    kernel-headers        linux-api-headers -
build  pc:libarchive          libarchive-dev    libarchive-devel      libarchive        libarchive
build  pc:jansson             libjansson-dev    jansson-devel         jansson           jansson
build  pc:sqlite3             libsqlite3-dev    sqlite-devel          sqlite            sqlite
build  pc:libcrypto           libssl-dev        openssl-devel         openssl           openssl@3
build  pc:cmocka              libcmocka-dev     libcmocka-devel       cmocka            cmocka
build  pc:libseccomp          libseccomp-dev    libseccomp-devel      libseccomp        -
build  static:busybox         busybox-static    busybox               busybox           -
kernel cmd:flex               flex              flex                  flex              flex
kernel cmd:bison              bison             bison                 bison             bison
kernel cmd:bc                 bc                bc                    bc                bc
kernel cmd:xz                 xz-utils          xz                    xz                xz
kernel cmd:patch              patch             patch                 patch             gpatch
kernel cmd:perl               perl              perl                  perl              perl
kernel cmd:make               make              make                  make              make
kernel pc:libelf              libelf-dev        elfutils-libelf-devel libelf            -
run    cmd:qemu-system-x86_64 qemu-system-x86   qemu-system-x86-core  qemu-system-x86   qemu
run    cmd:mke2fs             e2fsprogs         e2fsprogs             e2fsprogs         e2fsprogs
test   cmd:clang              clang             clang                 clang             llvm
test   rt:clang               libclang-rt-dev   compiler-rt           compiler-rt       llvm
test   cmd:clang-tidy         clang-tidy        clang-tools-extra     clang             llvm
test   cmd:cppcheck           cppcheck          cppcheck              cppcheck          cppcheck
test   cmd:shellcheck         shellcheck        ShellCheck            shellcheck        shellcheck
test   cmd:fsck.erofs         erofs-utils       erofs-utils           erofs-utils       erofs-utils
test   cmd:skopeo             skopeo            skopeo                skopeo            skopeo
test   cmd:umoci              umoci             umoci                 umoci             -
test   cmd:buildah            buildah           buildah               buildah           -
test   cmd:zstd               zstd              zstd                  zstd              zstd
test   cmd:bzip2              bzip2             bzip2                 bzip2             bzip2
test   cmd:lz4                lz4               lz4                   lz4               lz4
test   cmd:mmdebstrap         mmdebstrap        mmdebstrap            mmdebstrap        -
test   cmd:fio                fio               fio                   fio               fio
test   cmd:mandoc             mandoc            mandoc                mandoc            mandoc
test   py:pexpect             python3-pexpect   python3-pexpect       python-pexpect    -
test   cmd:setfattr           attr              attr                  attr              -
test   cmd:getfacl            acl               acl                   acl               -
test   cmd:strace             strace            strace                strace            -
'

die() { echo "deps: $*" >&2; exit 1; }

probe() { # HOW: is it here?
	local what=${1#*:} path
	case $1 in
	cmd:*) command -v "$what" || PATH=/usr/sbin:/sbin command -v "$what" ;;
	file:*) echo "#include <$what>" | gcc -E - ;;
	pc:*) pkg-config --exists "$what" ;;
	py:*) python3 -c "import $what" ;;
	rt:*) path=$("$what" -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a
		[ -e "$path" ] || [ -e "$("$what" -print-runtime-dir)/libclang_rt.fuzzer.a" ] ;;
	static:*) path=$(command -v "$what") && ! ldd "$path" ;;
	*) die "the table says '$1'" ;;
	esac >/dev/null 2>&1
}

select_system() { # sets: column (of the package names) and how (to install them)
	local id='' like=''
	if [ "$(uname -s)" = Darwin ]; then
		column=6 how='brew install' system=macOS
		return
	fi
	if [ -r /etc/os-release ]; then
		id=$(sed -n 's/^ID=//p' /etc/os-release | tr -d '"')
		like=$(sed -n 's/^ID_LIKE=//p' /etc/os-release | tr -d '"')
	fi
	system=${id:-this system}
	case " $id $like " in
	*' debian '* | *' ubuntu '*) column=3 how='apt-get install' ;;
	*' fedora '* | *' rhel '*) column=4 how='dnf install' ;;
	*' arch '*) column=5 how='pacman -S' ;;
	*) column=3 how='' ;;
	esac
}

find_missing() { # GROUP...: sets: missing (packages) and details
	local group line
	missing=() details=()
	while read -r -a line; do
		[ ${#line[@]} -gt 0 ] || continue
		for group in "$@"; do
			[ "${line[0]}" = "$group" ] || continue
			[ "$list_all" = 1 ] || ! probe "${line[1]}" || continue
			missing+=("${line[column - 1]}")
			details+=("${line[1]#*:}")
		done
	done <<<"$table"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root is needed for: $*"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -qq \
		-o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@"
}

apt_known() { # PACKAGE...: does apt know where to get each of them?
	local p
	for p in "$@"; do
		apt-cache policy "$p" 2>/dev/null | grep -q '^  Candidate: [^(]' || return 1
	done
}

apt_update() {
	apt update >&2 || die "'apt-get update' failed; is the package mirror reachable?"
}

apt_install() { # PACKAGE...
	echo "deps: installing ${*}" >&2
	apt_known "$@" || apt_update
	apt install -y --no-install-recommends "$@" >"$log" 2>&1 && return
	# Old lists name files that the mirror no longer has.
	apt_update
	apt install -y --no-install-recommends "$@" >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "installing failed: apt-get install --no-install-recommends $*"
	}
}

main() {
	local list_all=0 column how system missing details
	if [ "${1:-}" = --list ]; then
		list_all=1
		shift
	fi
	[ $# -gt 0 ] || die "usage: deps.sh [--list] build|run|kernel|test..."
	select_system
	find_missing "$@"
	if [ $list_all = 1 ]; then
		printf '%s\n' "${missing[@]}" | grep -vx -e - | sort -u
		return
	fi
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$how" != 'apt-get install' ] || ! command -v apt-get >/dev/null; then
		echo "deps: not found here: ${details[*]}" >&2
		[ -n "$how" ] || die "packages that hold them (names of Debian): ${missing[*]}"
		die "on $system, please install: $how $(printf '%s\n' "${missing[@]}" |
			grep -vx -e - | sort -u | tr '\n' ' ')"
	fi
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	apt_install "${missing[@]}"
	find_missing "$@"
	[ ${#missing[@]} -eq 0 ] || die "still not found after the installation: ${details[*]}"
}

main "$@"
