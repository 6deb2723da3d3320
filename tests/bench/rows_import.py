# SPDX-License-Identifier: Apache-2.0
"""Taking an image in, against the tools that unpack one."""

import os
import shutil
import tarfile

from common import (Row, Skip, Skipped, need_tool, say, show_mib, show_rate, smolvm, take_time,
                    temp_folder)
from rows_start import boot_tests, python_tar

CUT = 0.8   # of the files are in the first layer


def split_layers(folder):
    """Two layers of the files of a real system: [path]."""
    paths = [os.path.join(folder, "layer%d.tar" % i) for i in range(2)]
    with tarfile.open(python_tar()) as tar:
        members = tar.getmembers()
        # Hard links stay in the layer of what they link to.
        cut = int(len(members) * CUT)
        while cut < len(members) and members[cut].islnk():
            cut += 1
        first = {m.name for m in members[:cut]}
        with tarfile.open(paths[0], "w", format=tarfile.PAX_FORMAT) as a, \
                tarfile.open(paths[1], "w", format=tarfile.PAX_FORMAT) as b:
            for i, m in enumerate(members):
                out = a if i < cut or (m.islnk() and m.linkname in first) else b
                out.addfile(m, tar.extractfile(m) if m.isreg() else None)
    return paths


def make_images(folder):
    """A docker archive and an OCI layout of the same layers: (layers, archive, layout)."""
    images, _ = boot_tests()
    layers = split_layers(folder)
    data = []
    for path in layers:
        with open(path, "rb") as f:
            data.append(f.read())
    archive = images.docker_archive(os.path.join(folder, "image.tar"), data, {}, ("bench:1",))
    layout = images.oci_layout(os.path.join(folder, "layout"), data, {}, tag="1")
    return layers, archive, layout


class Peers:
    """The other ways, each into a new folder that is removed afterwards."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.work = temp_folder("import")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.work, ignore_errors=True)

    def umoci(self, source):
        to = os.path.join(self.work, "oci")
        options = [] if os.geteuid() == 0 else ["--rootless"]
        a = take_time([need_tool("skopeo"), "--insecure-policy", "copy", "-q", source,
                       "oci:%s:1" % to])
        b = take_time([need_tool("umoci"), "unpack", *options, "--image", to + ":1",
                       os.path.join(self.work, "bundle")])
        return a.seconds + b.seconds, max(a.peak_mib, b.peak_mib)

    def tar(self, layers):
        to = os.path.join(self.work, "tree")
        os.mkdir(to)
        runs = [take_time([need_tool("tar"), "-x", "--numeric-owner", "-C", to, "-f", path])
                for path in layers]
        return sum(r.seconds for r in runs), max(r.peak_mib for r in runs)


def ours(source):
    home = temp_folder("home")
    r = smolvm("image", "import", "--name", "bench", source, home=home)
    shutil.rmtree(home, ignore_errors=True)
    return r.seconds, r.peak_mib


def import_rows(bench):
    folder = temp_folder("images")
    layers, archive, layout = make_images(folder)
    size = sum(os.path.getsize(p) for p in layers)
    have_peers = all(shutil.which(n) for n in ("skopeo", "umoci"))
    kinds = {"docker": (archive, "docker-archive:" + archive),
             "oci": (layout, "oci:%s:1" % layout)}
    took = {}
    for i in bench.rounds(3, 1, 45):
        for kind, (source, name) in kinds.items():
            say("import: round %d, %s" % (i + 1, kind))
            took.setdefault(kind, []).append(ours(source))
            if have_peers:
                with Peers(folder) as p:
                    took.setdefault(kind + " umoci", []).append(p.umoci(name))
        with Peers(folder) as p:
            took.setdefault("tar", []).append(p.tar(layers))
    shutil.rmtree(folder, ignore_errors=True)

    def rates(key):
        return [size / seconds for seconds, _ in took[key]]

    def peaks(key):
        return [peak for _, peak in took[key]]
    what = "%d MB, docker archive" % (size / 1e6), "the same, OCI layout (gzip)"
    yield Row("import/tar", what[0], "tar -x of the layers", rates("docker"), rates("tar"),
              show=show_rate)
    if not have_peers:
        yield Skipped("import/umoci", Skip("skopeo and umoci are not installed"))
        return
    for kind, text in zip(kinds, what):
        yield Row("import/" + kind, text, "skopeo copy + umoci unpack", rates(kind),
                  rates(kind + " umoci"), aim=1.0, show=show_rate)
    yield Row("import/peak", "peak of memory, OCI layout", "skopeo, umoci", peaks("oci"),
              peaks("oci umoci"), aim=1.0, show=show_mib)
