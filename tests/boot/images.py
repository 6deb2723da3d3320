# SPDX-License-Identifier: Apache-2.0
"""Makes images for the tests: small ones out of busybox, and real ones of Debian's packages."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

from lib import Skip, need_tool

MTIME = 1700000000
PYTHON_PACKAGES = "python3"


# ---- entries of a layer ----------------------------------------------------------------------

def entry(name, kind, data=b"", mode=0o644, uid=0, gid=0, mtime=MTIME, link="", pax=None,
          device=(0, 0)):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, gid, mtime
    info.linkname, info.size = link, len(data)
    info.devmajor, info.devminor = device
    info.pax_headers = pax or {}
    return info, data


def file(name, data=b"", mode=0o644, **more):
    return entry(name, tarfile.REGTYPE, data if isinstance(data, bytes) else data.encode(), mode,
                 **more)


def directory(name, mode=0o755, **more):
    return entry(name, tarfile.DIRTYPE, mode=mode, **more)


def symlink(name, target, **more):
    return entry(name, tarfile.SYMTYPE, mode=0o777, link=target, **more)


def hardlink(name, target, **more):
    return entry(name, tarfile.LNKTYPE, link=target, **more)


def whiteout(name):
    folder, _, base = name.rpartition("/")
    return file((folder + "/" if folder else "") + ".wh." + base)


def opaque(folder):
    return file(folder + "/.wh..wh..opq")


def layer(*entries):
    """A layer's tar, as bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def busybox_entries():
    """A shell and the usual tools, users included."""
    path = need_tool("busybox")
    with open(path, "rb") as f:
        program = f.read()
    names = subprocess.run([path, "--list"], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    yield from (directory(d) for d in ("bin", "etc", "root", "home", "var", "usr", "usr/bin"))
    yield directory("tmp", 0o1777)
    yield file("bin/busybox", program, 0o755)
    yield from (symlink("bin/" + n, "busybox") for n in names if n not in ("busybox", "linuxrc"))
    yield file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
               "alice:x:1000:1001:Alice:/home/alice:/bin/sh\n")
    yield file("etc/group", "root:x:0:\nalice:x:1001:\nstaff:x:50:alice\n")
    yield directory("home/alice", uid=1000, gid=1001)


def busybox_layer():
    return layer(*busybox_entries())


# ---- wrappings -------------------------------------------------------------------------------

def digest(data):
    return hashlib.sha256(data).hexdigest()


def configuration(layers, config):
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": config or {}, "history": [{"created_by": "test"} for _ in layers],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(x) for x in layers]},
    }).encode()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), MTIME
    tar.addfile(info, io.BytesIO(data))


def docker_archive(path, layers, config=None, tags=("test:latest",)):
    """What "docker save" writes."""
    text = configuration(layers, config)
    with tarfile.open(path, "w") as tar:
        names = []
        for data in layers:
            name = digest(data)
            names.append(name + "/layer.tar")
            add(tar, name + "/VERSION", b"1.0")
            add(tar, name + "/layer.tar", data)
        add(tar, digest(text) + ".json", text)
        add(tar, "manifest.json", json.dumps([{
            "Config": digest(text) + ".json", "RepoTags": list(tags), "Layers": names}]).encode())
    return path


def oci_layout(path, layers, config=None, tag="latest", compress=True, change=None):
    """An OCI layout. change(blobs) may spoil it: a dictionary of digest -> bytes."""
    blobs = {}

    def blob(kind, data):
        blobs[digest(data)] = data
        return {"mediaType": "application/vnd.oci.image." + kind, "size": len(data),
                "digest": "sha256:" + digest(data)}
    kind = "layer.v1.tar+gzip" if compress else "layer.v1.tar"
    descriptors = [blob(kind, gzip.compress(x, 1, mtime=0) if compress else x) for x in layers]
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", configuration(layers, config)),
        "layers": descriptors}).encode()
    top = blob("manifest.v1+json", manifest)
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    if change:
        change(blobs)
    os.makedirs(os.path.join(path, "blobs", "sha256"))
    for name, data in blobs.items():
        with open(os.path.join(path, "blobs", "sha256", name), "wb") as f:
            f.write(data)
    with open(os.path.join(path, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')
    with open(os.path.join(path, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [top]}, f)
    return path


def tar_of(folder, path):
    """A tar of what is in a folder."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(folder)):
            tar.add(os.path.join(folder, name), name)
    return path


def root_folder(path, data):
    """Unpacks a layer (plain files only) as a root file system in a folder."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(path, filter="fully_trusted") if hasattr(tarfile, "data_filter") else \
            tar.extractall(path)
    return path


# ---- real ones -------------------------------------------------------------------------------

def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "smolvm", "test-images")
    try:
        os.makedirs(path, exist_ok=True)
    except OSError:
        return tempfile.gettempdir()
    return path


def debian_rootfs(packages, suite="bookworm"):
    """A root file system's tar of Debian's packages, made once; its path."""
    tool = need_tool("mmdebstrap")
    key = digest(("%s %s" % (suite, packages)).encode())[:12]
    path = os.path.join(cache_folder(), "debian-%s.tar" % key)
    if os.path.exists(path):
        return path
    part = "%s.%d.tar" % (path, os.getpid())
    # Users' own packages come from the mirror that this machine uses.
    sources = [p for p in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
               if os.path.exists(p) and os.path.getsize(p)]
    r = subprocess.run([tool, "--quiet", "--variant=minbase", "--include=" + packages,
                        "--aptopt=Acquire::Check-Valid-Until false", suite, part, *sources[:1]],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
    if r.returncode != 0:
        if os.path.exists(part):
            os.unlink(part)
        raise Skip("no image of Debian's packages: %s" % (r.stdout.strip().splitlines() or
                                                          ["mmdebstrap failed"])[-1][:200])
    os.rename(part, path)
    return path


def python_rootfs():
    return debian_rootfs(PYTHON_PACKAGES)


def python_archive(path):
    """A docker archive with python3 in it, two layers."""
    with open(python_rootfs(), "rb") as f:
        base = f.read()
    extra = layer(directory("app"), file("app/hello.py", "print('hello from', __file__)\n"))
    return docker_archive(path, [base, extra], {
        "Cmd": ["python3", "/app/hello.py"], "Env": ["PATH=/usr/bin:/bin", "APP=yes"],
        "WorkingDir": "/app"}, tags=("python:test",))


def copy_cached(make, name):
    """A file made once per run of the tests, shared by cases that only read it."""
    path = os.path.join(cache_folder(), name)
    if not os.path.exists(path):
        part = "%s.%d" % (path, os.getpid())
        make(part)
        shutil.move(part, path)
    return path
