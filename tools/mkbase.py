#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the embedded image: a tar with a static busybox, and a header that describes it.

The same busybox gives the same bytes, and so the same image id.
"""
import hashlib
import io
import json
import os
import platform
import struct
import subprocess
import sys
import tarfile

BUSYBOX_PLACES = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static",
                  "/usr/bin/busybox.static", "/usr/lib/busybox/busybox-static"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PT_INTERP = 3

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/profile": "export PATH=${PATH:-%s}\nexport PS1='\\u@\\h:\\w\\$ '\n" % PATH,
    "etc/os-release": 'ID=smolvm-base\nNAME="smolvm base image"\n'
                      'PRETTY_NAME="smolvm base image (busybox)"\n',
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
FOLDERS = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o555, "root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755, "var": 0o755, "var/tmp": 0o1777,
    "var/log": 0o755,
}
LINKS = {"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin", "var/run": "../run"}


def is_static(path):
    """Is it an ELF program that asks for no dynamic linker?"""
    with open(path, "rb") as f:
        data = f.read()
    if data[:5] != b"\x7fELF\x02":
        return False
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, offset + i * size)[0] != PT_INTERP
               for i in range(count))


def find_busybox():
    for path in BUSYBOX_PLACES:
        if os.path.exists(path) and is_static(path):
            return os.path.realpath(path)
    sys.exit("mkbase: no statically linked busybox found: apt-get install busybox-static")


def add(tar, name, kind, mode, data=b"", target=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, target, len(data)
    tar.addfile(info, io.BytesIO(data))


def make_tar(busybox):
    out = io.BytesIO()
    with open(busybox, "rb") as f:
        program = f.read()
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True,
                             text=True).stdout.split()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(FOLDERS):
            add(tar, name, tarfile.DIRTYPE, FOLDERS[name])
        for name in sorted(FILES):
            add(tar, name, tarfile.REGTYPE, 0o644, FILES[name].encode())
        for name in sorted(LINKS):
            add(tar, name, tarfile.SYMTYPE, 0o777, target=LINKS[name])
        add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, program)
        for name in sorted(set(applets) - {"busybox", "init", "linuxrc"}):
            add(tar, "bin/" + name, tarfile.SYMTYPE, 0o777, target="busybox")
    return out.getvalue()


def main():
    header_path, tar_path = sys.argv[1:3]
    tar = make_tar(sys.argv[3] if len(sys.argv) > 3 else find_busybox())
    config = json.dumps({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=" + PATH], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers",
                   "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]},
    })
    with open(tar_path, "wb") as f:
        f.write(tar)
    with open(header_path, "w") as f:
        f.write('#define BASE_IMAGE_ID "sha256:%s"\n' % hashlib.sha256(config.encode()).hexdigest())
        f.write("#define BASE_IMAGE_CONFIG %s\n" % json.dumps(config))
        f.write("#define BASE_IMAGE_TAR %s\n" % json.dumps(os.path.abspath(tar_path)))


main()
