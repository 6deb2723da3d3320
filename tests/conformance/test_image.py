#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images as other tools write them, in every form, and the store that they come into."""

import gzip
import lzma
import platform
import sys
import tarfile

sys.path.insert(0, __file__.rpartition("/conformance/")[0] + "/boot")
import images  # noqa: E402
from images import directory, file, layer, need_tool  # noqa: E402

from lib import *  # noqa: E402

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OTHER = "arm64" if HOST == "amd64" else "amd64"
LAYERS = 3


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def some_layers():
    return [layer(directory("bin"), file("bin/sh", noise(70000), 0o755), file("gone", "x")),
            layer(file("etc/one", "1" * 5000), images.whiteout("gone")),
            layer(file("etc/two", noise(3000, 2)), file("n" * 255, "long"))]


CONFIG = {"Cmd": ["/bin/sh"], "Env": ["A=b"], "User": "7:8", "WorkingDir": "/etc",
          "Entrypoint": ["e"], "StopSignal": "SIGINT"}


def layout(t, name="layout", **more):
    return images.oci_layout(t.path(name), some_layers(), CONFIG, **more)


def tool(*args):
    r = subprocess.run([need_tool(args[0]), *args[1:]], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=120)
    check(r.returncode == 0, "%s: %s" % (" ".join(args), r.stdout))
    return r.stdout


def copy(source, target):
    tool("skopeo", "copy", "--insecure-policy", source, target)


def listed(t, **more):
    return json.loads(t.run("image", "ls", "--json", **more).gives().out)


def taken(t, source, *args, **more):
    """Imports it; what the store then knows of the newest image."""
    t.run("image", "import", source, *args, **more).gives()
    return listed(t)[0]


def one_image(t, *sources):
    """All of these are the same image, and there is one of it."""
    seen = {taken(t, s)["id"] for s in sources}
    same(len(seen), 1, "ids of %s" % (sources,))
    same(len(listed(t)), 1, "images in the store")
    same(len(os.listdir(os.path.join(t.home, "images"))), 1, "files of images")
    return listed(t)[0]


def refused(t, source, *words, **more):
    r = t.run("image", "import", source, **more).fails(1, *words)
    t.leaves_nothing(2)
    return r


def judged(image):
    """What the file system's own checker says."""
    tool("fsck.erofs", image["rootfs_path"])


def inspected(t, name):
    return json.loads(t.run("image", "inspect", name).gives().out)[0]


# ---- what skopeo, umoci and buildah write ----------------------------------------------------

@test()
def skopeo_writes_it_in_every_form(t):
    source = "oci:%s:latest" % layout(t)
    copy(source, "docker-archive:%s:some/name:1" % t.path("docker.tar"))
    copy(source, "oci-archive:%s:some/name:1" % t.path("oci.tar"))
    copy(source, "oci:%s:other/name:2" % t.path("oci"))
    images.tar_of(t.path("oci"), t.path("plain-oci.tar"))
    with open(t.path("docker.tar"), "rb") as f:
        data = f.read()
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        t.write("docker.tar" + suffix, pack(data))
    image = one_image(t, *(t.path(n) for n in (
        "docker.tar", "oci.tar", "oci", "plain-oci.tar", "docker.tar.gz", "docker.tar.xz",
        "layout")))
    same(sorted(image["names"]), ["other/name:2", "some/name:1"], "names")
    judged(image)
    found = inspected(t, "some/name:1")
    for key, value in (("cmd", ["/bin/sh"]), ("env", ["A=b"]), ("user", "7:8"),
                       ("workdir", "/etc"), ("entrypoint", ["e"]), ("stop_signal", "SIGINT")):
        same(found[key], value, key)
    check("/n" + "n" * 254 in tool("dump.erofs", "--ls", "--path=/", image["rootfs_path"]) or
          "n" * 255 in tool("dump.erofs", "--ls", "--path=/", image["rootfs_path"]), "long name")


@test()
def skopeo_compresses_with_zstd(t):
    source = "oci:%s:latest" % layout(t, compress=False)
    tool("skopeo", "copy", "--insecure-policy", "--dest-compress-format", "zstd", source,
         "oci:%s:a" % t.path("z"))
    with open(t.path("z/index.json")) as f:
        check(f.read(), "no index")
    one_image(t, t.path("layout"), t.path("z"))


@test()
def umoci_writes_layers(t):
    path = t.path("u")
    tool("umoci", "init", "--layout", path)
    tool("umoci", "new", "--image", path + ":base")
    for i in range(LAYERS):
        tool("umoci", "unpack", "--rootless", "--image", path + ":base", t.path("b%d" % i))
        os.makedirs(t.path("b%d/rootfs/bin" % i), exist_ok=True)
        with open(t.path("b%d/rootfs/bin/f%d" % (i, i)), "wb") as f:
            f.write(noise(9000, i))
        tool("umoci", "repack", "--image", path + ":base", t.path("b%d" % i))
    tool("umoci", "config", "--image", path + ":base", "--config.cmd", "/bin/f0")
    judged(taken(t, path))
    r = t.run("image", "import", path + "#nothere").fails(1, "nothere", "base")
    check(b"#" not in r.out, r.describe())


@test(limit=120)
def buildah_writes_archives(t):
    need_root()
    need_tool("buildah")
    options = ["--root", t.path("store"), "--runroot", t.path("runroot"),
               "--storage-driver", "vfs"]

    def buildah(*args):
        return subprocess.run(["buildah", *options, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
    r = buildah("from", "--name", "work", "scratch")
    if r.returncode != 0:
        raise Skip("buildah does not work here: %s" % r.stdout.strip()[-150:])
    t.write("root/bin/tool", noise(5000), 0o755)
    for args in (("copy", "work", t.path("root"), "/"),
                 ("config", "--cmd", "/bin/tool", "work"), ("commit", "work", "mine:7"),
                 ("push", "mine:7", "docker-archive:%s:mine:7" % t.path("d.tar")),
                 ("push", "mine:7", "oci-archive:%s:mine:7" % t.path("o.tar"))):
        r = buildah(*args)
        check(r.returncode == 0, "%s: %s" % (args, r.stdout))
    judged(one_image(t, t.path("d.tar"), t.path("o.tar")))
    same(inspected(t, "mine:7")["cmd"], ["/bin/tool"], "command")


# ---- what docker writes ----------------------------------------------------------------------

def docker_both(t, name, compress):
    """What "docker save" has written since version 25: an OCI layout with a manifest.json."""
    folder = layout(t, name + ".d", tag="3", compress=compress)
    with open(folder + "/index.json") as f:
        top = json.load(f)["manifests"][0]
    with open(folder + "/blobs/sha256/" + top["digest"][7:]) as f:
        manifest = json.load(f)
    with open(folder + "/manifest.json", "w") as f:
        json.dump([{"Config": "blobs/sha256/" + manifest["config"]["digest"][7:],
                    "RepoTags": ["alpine:3"],
                    "Layers": ["blobs/sha256/" + x["digest"][7:] for x in manifest["layers"]]}],
                  f)
    return images.tar_of(folder, t.path(name))


@test()
def docker_archives_old_and_new(t):
    old = images.docker_archive(t.path("old.tar"), some_layers(), CONFIG, tags=("alpine:3",))
    image = one_image(t, old, docker_both(t, "new.tar", False), docker_both(t, "c.tar", True))
    same(image["names"], ["alpine:3"], "names")


@test()
def a_layer_that_is_a_link_to_another(t):
    data = some_layers()[0]
    text = images.configuration([data, data], {})
    with tarfile.open(t.path("l.tar"), "w") as tar:
        images.add(tar, "a" * 64 + "/layer.tar", data)
        link = tarfile.TarInfo("b" * 64 + "/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../" + "a" * 64 + "/layer.tar"
        tar.addfile(link)
        images.add(tar, images.digest(text) + ".json", text)
        images.add(tar, "manifest.json", json.dumps([{
            "Config": images.digest(text) + ".json", "RepoTags": None,
            "Layers": [x * 64 + "/layer.tar" for x in "ab"]}]).encode())
    judged(taken(t, t.path("l.tar")))


@test()
def links_in_an_archive_that_leave_it_or_turn_round(t):
    for target in ("../../../../etc/passwd", "layer.tar", "/" + "a" * 64 + "/layer.tar"):
        text = images.configuration([b""], {})
        with tarfile.open(t.path("l.tar"), "w") as tar:
            link = tarfile.TarInfo("a" * 64 + "/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
            images.add(tar, "c.json", text)
            images.add(tar, "manifest.json", json.dumps([{
                "Config": "c.json", "RepoTags": [], "Layers": ["a" * 64 + "/layer.tar"]}]
            ).encode())
        refused(t, t.path("l.tar"), "link")
        os.unlink(t.path("l.tar"))


@test()
def several_images_in_an_archive(t):
    made = []
    for i in "12":
        path = images.docker_archive(t.path(i), [layer(file("f", i))], {}, tags=("a/b:" + i,))
        with tarfile.open(path) as tar:
            made.append({m.name: tar.extractfile(m).read() for m in tar})
    with tarfile.open(t.path("both.tar"), "w") as tar:
        for part in made:
            for name, data in part.items():
                if name != "manifest.json":
                    images.add(tar, name, data)
        images.add(tar, "manifest.json", json.dumps(
            [json.loads(p["manifest.json"])[0] for p in made]).encode())
    refused(t, t.path("both.tar"), "#TAG", "a/b:1, a/b:2")
    refused(t, t.path("both.tar#3"), "called 3")
    same(taken(t, t.path("both.tar#2"))["names"], ["a/b:2"], "by tag")
    same(taken(t, t.path("both.tar#docker.io/a/b:1"))["names"], ["a/b:1"], "by name")


# ---- OCI layouts -----------------------------------------------------------------------------

def edit_index(path, change):
    with open(path + "/index.json") as f:
        index = json.load(f)
    index = change(index) or index
    with open(path + "/index.json", "w") as f:
        json.dump(index, f)
    return path


def add_blob(path, data):
    with open(path + "/blobs/sha256/" + images.digest(data), "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + images.digest(data), "size": len(data)}


def for_platforms(t, *names, depth=1):
    """The layout's image in an index (in an index ...), said to be for these platforms."""
    def change(index):
        top = index["manifests"][0]
        del top["annotations"]
        inner = [{**top, "platform": {"os": "linux", "architecture": n}} for n in names]
        inner.append({**top, "digest": "sha256:" + "0" * 64,
                      "platform": {"os": "unknown", "architecture": "unknown"},
                      "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
        for _ in range(depth):
            data = json.dumps({"schemaVersion": 2, "manifests": inner}).encode()
            inner = [{"mediaType": "application/vnd.oci.image.index.v1+json",
                      **add_blob(path, data)}]
        index["manifests"] = inner
    path = layout(t, "p-%s-%d" % ("-".join(names), depth))
    return edit_index(path, change)


@test()
def images_for_several_platforms(t):
    one_image(t, for_platforms(t, OTHER, HOST), for_platforms(t, HOST, "s390x", depth=3),
              for_platforms(t, OTHER, HOST, depth=0))
    refused(t, for_platforms(t, OTHER, "s390x"), "linux/" + HOST, "linux/" + OTHER, "linux/s390x")
    refused(t, for_platforms(t, HOST, depth=9), "index")


@test()
def an_image_for_another_machine(t):
    def change(blobs):
        for name, data in list(blobs.items()):
            if b'"rootfs"' in data and data[:1] == b"{":
                blobs[name] = data.replace(b'"amd64"', b'"mips"')
    refused(t, layout(t, "digest", change=change), "digest")
    path = t.path("d.tar")
    text = images.configuration([], {}).replace(b'"amd64"', b'"mips"')
    with tarfile.open(path, "w") as tar:
        images.add(tar, "c.json", text)
        images.add(tar, "manifest.json", b'[{"Config": "c.json", "Layers": []}]')
    refused(t, path, "linux/mips", "linux/" + HOST)


@test()
def layers_that_are_elsewhere_or_unknown(t):
    for kind, word in (("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign"),
                       ("application/x-funny", "x-funny")):
        path = layout(t, word)
        top = json.load(open(path + "/index.json"))["manifests"][0]
        manifest = json.load(open(path + "/blobs/sha256/" + top["digest"][7:]))
        manifest["layers"][1]["mediaType"] = kind
        new = add_blob(path, json.dumps(manifest).encode())
        edit_index(path, lambda index, new=new: index["manifests"][0].update(new))
        refused(t, path, word)


@test()
def digests_and_sizes_that_do_not_match(t):
    for number, (key, value) in enumerate((("digest", "sha256:" + "1" * 64), ("size", 7),
                                           ("digest", "sha512:00"), ("digest", "../../x"))):
        path = layout(t, "m%d" % number)
        top = json.load(open(path + "/index.json"))["manifests"][0]
        manifest = json.load(open(path + "/blobs/sha256/" + top["digest"][7:]))
        wanted = manifest["layers"][0]["digest"][7:]
        manifest["layers"][0][key] = value
        if value == "sha256:" + "1" * 64:
            os.link("%s/blobs/sha256/%s" % (path, wanted), path + "/blobs/sha256/" + "1" * 64)
        new = add_blob(path, json.dumps(manifest).encode())
        edit_index(path, lambda index, new=new: index["manifests"][0].update(new))
        refused(t, path, *(("1" * 64, wanted) if "1" * 64 in str(value) else ()))
    same(listed(t), [], "images")


@test()
def blobs_that_are_no_files(t):
    path = layout(t)
    blob = sorted(os.listdir(path + "/blobs/sha256"))[0]
    os.unlink(path + "/blobs/sha256/" + blob)
    os.mkfifo(path + "/blobs/sha256/" + blob)
    refused(t, path, "not a file", timeout=20)


@test()
def names_that_are_none(t):
    path = images.docker_archive(t.path("n.tar"), [layer(file("f"))], {}, tags=(
        "good:1", "../../evil", "a b", "x" * 300, "-rf", "", "UPPER/ok:2", "nl\nx:1"))
    same(sorted(taken(t, path)["names"]), ["UPPER/ok:2", "good:1"], "names")


# ---- root file systems -----------------------------------------------------------------------

@test()
def a_root_file_system_in_every_form(t):
    data = some_layers()[0]
    packed = {"r.tar": data, "r.tar.gz": gzip.compress(data), "r.tar.xz": lzma.compress(data)}
    for name, content in packed.items():
        t.write(name, content)
        image = taken(t, t.path(name))
        judged(image)
        same(image["cmd"] if "cmd" in image else ["/bin/sh"], ["/bin/sh"], "command")
    check(".wh" not in tool("dump.erofs", "--ls", "--path=/", image["rootfs_path"]), "whiteout")
    before = len(listed(t))
    for name, content in packed.items():
        r = t.run("image", "import", "-", stdin=content).gives()
        check(r.out is not None, name)
    same(len(listed(t)), before, "images, when the same came through a pipe")
    judged(taken(t, images.root_folder(t.path("folder"), data)))


@test()
def archives_through_a_pipe(t):
    for name in ("a.tar", "a.tar.gz"):
        path = images.docker_archive(t.path("a"), some_layers(), CONFIG, tags=("pipe:1",))
        with open(path, "rb") as f:
            data = f.read()
        r = t.run("image", "import", "-", stdin=gzip.compress(data) if ".gz" in name else data)
        r.gives()
        same(len(listed(t)), 1, "images")
        t.leaves_nothing(2)
        with open(path, "rb") as f:
            t.run("image", "import", "-", stdin=f).gives()
    copy("oci:%s:x" % layout(t, tag="x"), "oci-archive:%s" % t.path("o.tar"))
    with open(t.path("o.tar"), "rb") as f:
        t.run("image", "import", "-", stdin=f.read()).gives()
    for cut in (300, 5000, 60000):
        t.run("image", "import", "-", stdin=data[:cut]).fails(1)
    t.leaves_nothing(2)


@test()
def what_people_take_for_images(t):
    for data, *words in (
            (b"# x\nARG a=1\nFROM alpine\n", "Dockerfile", "build"), (b"PK\3\4" + noise(99), "zip"),
            (b"QFI\xfb" + noise(99), "qcow2"), (bytes(32769) + b"CD001", "ISO"),
            (b"hsqs" + noise(99), "squashfs"), (b"hello\n", "text"), (b"", "empty"),
            (b'{"a": 1}', "JSON"), (bytes(510) + b"\x55\xaa" + bytes(512), "disk image"),
            (gzip.compress(b"hello\n" * 200), "archive")):
        refused(t, t.write("thing", data), *words)
        if data:
            t.run("image", "import", "-", stdin=data).fails(1, *words)
    t.write("ctx/Dockerfile", "FROM x")
    refused(t, t.path("ctx"), "Dockerfile", "build")


# ---- the store -------------------------------------------------------------------------------

def state_of(t):
    out = {}
    for base, _, files in os.walk(t.home):
        for name in files:
            st = os.stat(os.path.join(base, name))
            if not name.endswith("-shm"):
                out[os.path.join(base, name)] = (st.st_ino, st.st_mtime_ns, st.st_size)
    return out


@test()
def the_second_time_costs_nothing(t):
    sources = [images.docker_archive(t.path("d.tar"), some_layers(), {}, tags=("d:1",)),
               layout(t), t.write("r.tar", some_layers()[0]),
               images.root_folder(t.path("folder"), some_layers()[1])]
    for source in sources:
        t.run("image", "import", source).gives()
    before = state_of(t)
    for source in sources:
        t.run("image", "import", source).gives()
    same(state_of(t), before, "files of the store")
    t.write("r.tar", some_layers()[1])
    t.write("folder/etc/more", "x")
    n = len(listed(t))
    t.run("image", "import", t.path("r.tar")).gives()
    t.run("image", "import", t.path("folder")).gives()
    same(len(listed(t)), n, "images, after two sources have changed")
    same(len(os.listdir(os.path.join(t.home, "images"))), n, "files of images")


@test()
def many_imports_at_once(t):
    path = images.docker_archive(t.path("d.tar"), [layer(file("bin/f", noise(3 << 20)))], {})
    other = images.docker_archive(t.path("e.tar"), [layer(file("bin/f", noise(1 << 20, 5)))], {},
                                  tags=("other:1",))
    running = [t.start("image", "import", path) for _ in range(5)]
    running += [t.start("image", "import", other), t.start("image", "ls")]
    for r in running:
        r.wait(60).gives()
    same(len(listed(t)), 2, "images")
    same(len(os.listdir(os.path.join(t.home, "images"))), 2, "files of images")
    t.leaves_nothing(2)


@test(limit=120)
def killed_at_any_moment(t):
    path = images.docker_archive(t.path("d.tar"), [layer(file("bin/f", noise(8 << 20)))], {})
    for i in range(12):
        running = t.start("image", "import", path)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(0.01 * i)
        running.send(signal.SIGKILL)
        running.wait(10)
    t.run("image", "ls").gives()
    t.leaves_nothing(0)
    judged(taken(t, path))
    kept = os.listdir(os.path.join(t.home, "images"))
    same(kept, [os.path.basename(listed(t)[0]["rootfs_path"])], "files of images")


@test()
def a_home_that_cannot_be_written_to(t):
    need_root()
    path = images.docker_archive(t.path("d.tar"), some_layers(), {}, tags=("kept:1",))
    more = t.write("more.tar", some_layers()[0])
    t.run("image", "import", path).gives()
    for spoil in ((), ("smolvm.db-shm",), ("smolvm.db-wal", "smolvm.db-shm")):
        for name in spoil:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(t.home, name))
        subprocess.run(["mount", "--bind", t.home, t.home], check=True)
        r = subprocess.run(["mount", "-o", "remount,bind,ro", t.home])
        if r.returncode != 0:
            subprocess.run(["umount", t.home])
            raise Skip("nothing can be mounted here")
        try:
            same(len(listed(t)), 1, "images")
            same(inspected(t, "kept:1")["names"], ["kept:1"], "names")
            t.run("image", "import", path).gives()
            refused(t, more, "cannot be written to")
            t.run("image", "rm", "kept:1").fails(1, "cannot be written to")
        finally:
            subprocess.run(["umount", t.home], check=True)
    t.run("image", "import", more).gives()


@test()
def a_home_that_is_not_ours(t):
    t.become_nobody()
    os.chmod(t.tmp, 0o755)
    os.chown(t.home, 0, 0)
    os.chmod(t.home, 0o755)
    need_root()
    t.run("image", "ls").fails(1, t.home)


@test()
def a_database_of_the_future(t):
    import sqlite3
    t.run("image", "ls").gives()
    db = sqlite3.connect(os.path.join(t.home, "smolvm.db"))
    db.execute("PRAGMA user_version=99")
    db.commit()
    db.close()
    t.run("image", "ls").fails(1, "newer smolvm", "99")


@test()
def ids_and_beginnings_of_them(t):
    image = taken(t, t.write("r.tar", some_layers()[0]))
    digits = image["id"].partition(":")[2]
    for what in (image["id"], digits, digits[:6], digits[:12]):
        same(inspected(t, what)["id"], image["id"], what)
    t.run("image", "inspect", digits[:5]).fails(1, digits[:5])
    t.run("image", "rm", digits[:8]).gives()
    same(listed(t), [], "images")
    same(os.listdir(os.path.join(t.home, "images")), [], "files of images")


main()
