#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the layers of an image with everything that is hard about layers.

    nasty_layers.py DIR     writes DIR/1.tar, DIR/2.tar, ...
"""
import io
import os
import random
import struct
import sys
import tarfile

CAPABILITY = struct.pack("<IIIII", 0x02000001, 0x2400, 0, 0, 0)
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [
    (1, 7, 0xffffffff), (2, 5, 1234), (4, 5, 0xffffffff), (0x10, 5, 0xffffffff),
    (0x20, 0, 0xffffffff)])
RANDOM = random.Random(1)


class Layer:
    def __init__(self, folder, number, form=tarfile.PAX_FORMAT):
        self.tar = tarfile.open("%s/%d.tar" % (folder, number), "w", format=form,
                                encoding="utf-8", errors="surrogateescape")
        self.clock = 1500000000 + number * 1000

    def add(self, name, kind=tarfile.REGTYPE, mode=0o644, data=b"", link="", owner=(0, 0),
            xattrs=(), mtime=None, dev=(0, 0)):
        info = tarfile.TarInfo(name if isinstance(name, str) else os.fsdecode(name))
        info.type, info.mode, info.linkname = kind, mode, link
        info.uid, info.gid = owner
        info.devmajor, info.devminor = dev
        info.size = len(data)
        self.clock += 1
        info.mtime = self.clock + 0.25 if mtime is None else mtime
        for key, value in xattrs:
            info.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode, **more)

    def link(self, name, target, **more):
        self.add(name, tarfile.SYMTYPE, 0o777, link=target, **more)

    def hard(self, name, target):
        self.add(name, tarfile.LNKTYPE, link=target)

    def close(self):
        self.tar.close()


def base(folder):
    la = Layer(folder, 1)
    la.dir("./", mtime=1400000000)
    for d in ("etc", "usr", "usr/lib", "usr/bin", "var", "var/lib", "opt", "opt/hidden",
              "opt/hidden/deep", "opt/again", "opt/opaque", "opt/opaque/sub", "opt/opaque2",
              "opt/dir2file", "opt/dir2file/in", "data", "data/many", "opt/meta", "opt/swap"):
        la.dir(d)
    la.link("lib", "usr/lib")
    la.link("abs", "/usr/lib")
    la.link("up", "../../../usr/bin")
    la.link("dangling", "nowhere/yet")
    la.link("loop", "loop")
    la.link("long-target", "x" * 200 + "/" + "y" * 200)
    la.link("longest-target", "z/" * 2040)
    for size in (0, 1, 2047, 2048, 2049, 4032, 4095, 4096, 4097, 8192, 1 << 20):
        la.add("data/size-%d" % size, data=RANDOM.randbytes(size))
    la.add("data/zeroes", data=bytes(300000))
    la.add("data/mostly-zeroes", data=bytes(100000) + b"x" + bytes(50000) + b"y")
    la.add("usr/bin/setuid", mode=0o4755, data=b"#!")
    la.add("usr/bin/setgid", mode=0o2711, data=b"#!", owner=(1000, 50))
    la.dir("tmp", mode=0o1777)
    la.add("etc/owner", owner=(4000000000, 3000000000))
    la.add("etc/old", mtime=-86400)
    la.add("etc/new", mtime=4000000000.125)
    la.add("etc/unreadable", mode=0, data=b"secret")
    la.add("dev-null", tarfile.CHRTYPE, 0o666, dev=(1, 3))
    la.add("dev-big", tarfile.BLKTYPE, 0o600, dev=(259, 70000))
    la.add("pipe", tarfile.FIFOTYPE, 0o620)
    la.add("usr/bin/capable", mode=0o755, data=b"#!",
           xattrs=[("security.capability", CAPABILITY)])
    la.add("etc/attributes", data=b"a", xattrs=[
        ("user.text", b"hello"), ("user.binary", bytes(range(256))),
        ("trusted.one", b"1"), ("user.large", RANDOM.randbytes(1500))])
    la.add("etc/attributes2", data=b"b", xattrs=[("user.text", b"hello")])
    la.dir("etc/acl", xattrs=[("system.posix_acl_access", ACL),
                              ("system.posix_acl_default", ACL)], mode=0o750)
    names = (b"new\nline", b"tab\t", b"caf\xe9-latin1", "e\u0301-decomposed".encode(),
             "\u00e9-composed".encode(), b"-dash", b"back\\slash", b" blank ", b"!before-dot",
             b".hidden", b"..data", b"...", b"\xff\xfe", b"n" * 255, b"%s%n", b"\x7f\x01",
             "\u65e5\u672c\u8a9e".encode())
    for name in names:
        la.add(b"data/" + name, data=name)
    for i in RANDOM.sample(range(3000), 3000):
        la.add("data/many/%s-%d" % ("f" * (i % 100), i), data=b"%d" % i)
    deep = "data"
    for i in range(100):
        deep += "/level-%d" % i
        la.dir(deep)
    la.add(deep + "/bottom", data=b"deep")
    for name in ("var/lib/a", "var/lib/b", "opt/hidden/x", "opt/hidden/deep/y", "opt/again/old",
                 "opt/opaque/old", "opt/opaque/sub/old", "opt/opaque2/old", "opt/dir2file/in/f",
                 "opt/meta/kept", "opt/file2dir", "opt/swap/a", "usr/lib/below", "opt/linked",
                 "opt/twice"):
        la.add(name, data=name.encode())
    la.hard("var/lib/a2", "var/lib/a")
    la.hard("var/lib/a3", "./var/lib/a2")
    la.hard("opt/linked2", "opt/linked")
    la.link("opt/link2dir", "meta")
    la.hard("opt/link-link", "opt/link2dir")
    la.close()


def second(folder):
    la = Layer(folder, 2)
    la.add("var/lib/.wh.b")                              # one file
    la.add("opt/.wh.hidden")                             # a directory
    la.add("opt/.wh.again")                              # removed, and there again
    la.dir("opt/again", mode=0o700)
    la.add("opt/again/new", data=b"new")
    la.dir("opt/opaque", mode=0o711)                     # before and after the mark
    la.add("opt/opaque/first", data=b"first")
    la.add("opt/opaque/.wh..wh..opq")
    la.add("opt/opaque/second", data=b"second")
    la.add("opt/opaque2/.wh..wh..opq")                   # no entry of its own
    la.add("opt/dir2file", data=b"now a file")
    la.dir("opt/file2dir")
    la.add("opt/file2dir/inside", data=b"in")
    la.dir("opt/link2dir", mode=0o750)                   # link to a directory becomes one
    la.add("opt/link2dir/own", data=b"own")
    la.add("./opt/meta/late", data=b"late")              # the directory's entry after what it holds
    la.dir("./opt/meta/", mode=0o2770, owner=(7, 8), xattrs=[("user.dir", b"d")])
    la.add("/opt/absolute", data=b"absolute")
    la.hard("opt/from-below", "usr/lib/below")           # of a lower layer
    la.add("lib/through-link", data=b"1")                # links on the way
    la.add("abs/through-absolute", data=b"2")
    la.add("up/through-up", data=b"3")
    la.add("opt/linked", data=b"changed")                # the other name keeps the old contents
    la.add("opt/twice", data=b"first time")
    la.add("opt/twice", data=b"second time")
    la.add("made/for/me", data=b"parents are missing")
    la.add("var/lib/.wh.never-was")
    la.close()


def third(folder):
    la = Layer(folder, 3, tarfile.GNU_FORMAT)
    la.add("lib/.wh.below")                              # whiteout through a link; one more name
    la.add("var/lib/.wh.a")
    la.add("made/.wh..wh..opq")
    la.add("opt/again/.wh.new")
    la.dir("data/many", mode=0o700)
    la.add("data/many/-0", data=b"replaced")
    la.add("data/" + "long-name-" * 20, data=b"gnu long name")
    la.add("data/sub/" + "long-dir-" * 20 + "/" + "long-name-" * 20, data=b"both")
    la.link("data/gnu-long-link", "t" * 300)
    la.add("opt/swap", data=b"swapped")
    # parents that had to be made changed the times of these where files were unpacked for real
    la.dir("data/", mtime=1600000001)
    la.dir("./", mtime=1600000000)
    la.close()


def main():
    folder = sys.argv[1]
    base(folder)
    second(folder)
    third(folder)


main()
