#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the manifest of a directory, in the form of erofs_list.

    manifest.py DIR [-x PREFIX]...     -x: leave out extended attributes that begin so
"""
import os
import stat
import sys
import zlib

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFCHR: "char",
         stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFLNK: "link"}
ORDER = [b"user.", b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.",
         b"security."]


def text(data):
    return "".join(chr(c) if 0x20 < c < 0x7f and c != 0x5c else "\\x%02x" % c for c in data)


def contents(path, st):
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFLNK:
        return text(os.readlink(path))
    if kind == stat.S_IFREG:
        crc = 0
        with open(path, "rb") as f:
            while data := f.read(1 << 20):
                crc = zlib.crc32(data, crc)
        return "%08x" % crc
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev))
    return "-"


def xattrs(path, left_out):
    found = []
    for name in os.listxattr(path, follow_symlinks=False):
        raw = os.fsencode(name)
        if any(raw.startswith(p) for p in left_out):
            continue
        for index, prefix in enumerate(ORDER):
            if raw.startswith(prefix):
                value = os.getxattr(path, name, follow_symlinks=False)
                found.append((raw, prefix.decode() + text(raw[len(prefix):]) + "=" + value.hex()))
                break
    return ",".join(t for _, t in sorted(found)) or "-"


def show(path, shown, left_out):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    seconds, ns = divmod(st.st_mtime_ns, 1000000000)
    size = "- -" if kind == stat.S_IFDIR else "%d %d" % (
        st.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0, st.st_nlink)
    print(text(shown), TYPES[kind], "%04o" % stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid,
          "%d.%09d" % (seconds, ns), size, contents(path, st), xattrs(path, left_out))
    return kind == stat.S_IFDIR


def walk(path, shown, left_out):
    for name in sorted(os.listdir(path)):
        inner = path + b"/" + name
        if stat.S_ISSOCK(os.lstat(inner).st_mode):
            continue
        if show(inner, shown + b"/" + name, left_out):
            walk(inner, shown + b"/" + name, left_out)


def main():
    sys.setrecursionlimit(10000)
    left_out = [os.fsencode(a) for i, a in enumerate(sys.argv) if sys.argv[i - 1] == "-x"]
    root = os.fsencode(sys.argv[1])
    show(root, b"/", left_out)
    walk(root, b"", left_out)


main()
