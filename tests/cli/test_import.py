#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""smolvm image: importing, listing, removing, and archives that are wrong in every way."""

import gzip
import io
import sys
import tarfile

sys.path.insert(0, __file__.rpartition("/cli/")[0] + "/boot")
import images  # noqa: E402
from images import directory, file, layer, symlink  # noqa: E402

from lib import *  # noqa: E402
from lib import peak_kib  # noqa: E402


def small():
    return layer(directory("bin"), file("bin/sh", "#!x\n", 0o755), directory("etc"))


def listed(t):
    return json.loads(t.run("image", "ls", "--json").gives().out)


def refused(t, source, *words, **more):
    """The import fails with one line, and nothing of it stays."""
    before = len(listed(t))
    r = t.run("image", "import", source, timeout=40, **more).fails(1, *words)
    same(len(listed(t)), before, "images in the store")
    t.leaves_nothing(2)
    kept = os.path.join(t.home, "images")
    same(len([n for n in os.listdir(kept) if n.endswith(".erofs")]) if os.path.isdir(kept) else 0,
         before, "files of images")
    return r


# ---- the store -------------------------------------------------------------------------------

@test()
def import_list_inspect_remove(t):
    path = images.docker_archive(t.path("i.tar"), [small()], {"Cmd": ["x", "y"], "Env": ["A=b"]},
                                 tags=("one:1", "two:2"))
    t.run("image", "import", path).gives()
    found = listed(t)
    same(len(found), 1, "images")
    check({n.split("/")[-1] for n in found[0]["names"]} == {"one:1", "two:2"}, found)
    text = t.run("image", "ls").gives().text()
    check("one" in text and "two" in text, text)
    inspected = json.loads(t.run("image", "inspect", "one:1").gives().out)[0]
    same(inspected["cmd"], ["x", "y"], "command")
    same(inspected["env"], ["A=b"], "environment")
    check(os.path.exists(inspected["rootfs_path"]), inspected)
    t.run("image", "rm", "one:1").gives()
    same(len(listed(t)), 1, "images after the first name is gone")
    t.run("image", "rm", "two:2").gives()
    same(listed(t), [], "images")
    check(not os.path.exists(inspected["rootfs_path"]), "its file is still there")


@test()
def a_name_of_our_own(t):
    path = t.write("root.tar", small())
    t.run("image", "import", path, "--name", "mine:3").gives()
    check(any("mine:3" in n for n in listed(t)[0]["names"]), listed(t))
    r = t.run("image", "import", path, "--name", "bad name")
    check(r.rc != 0 and b"bad name" in r.err, r.describe())


@test()
def what_is_not_there_cannot_be_removed(t):
    r = t.run("image", "rm", "nothing").fails(1, "nothing")
    t.run("image", "rm", "-f", "nothing").gives()
    r = t.run("image", "inspect", "nothing")
    check(r.rc == 1 and b"nothing" in r.err, r.describe())


@test()
def two_names_for_the_same_contents(t):
    a = images.docker_archive(t.path("a.tar"), [small()], {}, tags=("a:1",))
    b = images.docker_archive(t.path("b.tar"), [small()], {}, tags=("b:1",))
    t.run("image", "import", a).gives()
    t.run("image", "import", b).gives()
    same(len(listed(t)), 1, "images")
    same(len(listed(t)[0]["names"]), 2, "names")


@test()
def a_name_moves_to_the_newest(t):
    a = images.docker_archive(t.path("a.tar"), [small()], {"Cmd": ["a"]}, tags=("x:1",))
    b = images.docker_archive(t.path("b.tar"), [small()], {"Cmd": ["b"]}, tags=("x:1",))
    t.run("image", "import", a).gives()
    t.run("image", "import", b).gives()
    same(json.loads(t.run("image", "inspect", "x:1").gives().out)[0]["cmd"], ["b"], "command")


# ---- archives that are wrong -----------------------------------------------------------------

@test()
def missing_empty_and_strange_sources(t):
    refused(t, t.path("missing.tar"), "missing.tar")
    refused(t, t.write("empty.tar"))
    refused(t, t.write("text.tar", "this is no archive\n" * 100))
    refused(t, t.write("zeros.tar", bytes(100000)))
    refused(t, t.write("noise.tar", random.Random(1).randbytes(200000)))
    refused(t, "/dev/null")
    refused(t, "/dev/zero")
    os.mkfifo(t.path("fifo"))
    refused(t, t.path("fifo"))
    r = t.run("image", "import", "-", stdin=b"")
    check(r.rc == 1 and r.err, r.describe())


@test()
def an_empty_folder(t):
    r = t.run("image", "import", t.folder("nothing"))
    check(r.rc in (0, 1) and (r.rc == 0 or r.err), r.describe())


@test(limit=120)
def truncated_archives(t):
    path = images.docker_archive(t.path("i.tar"), [layer(file("f", b"x" * 50000)), small()])
    with open(path, "rb") as f:
        data = f.read()
    for at in (100, 511, 513, 1024, 5000, len(data) // 2, len(data) - 12000):
        refused(t, t.write("cut.tar", data[:at]))


@test(limit=120)
def flipped_bits_in_layers_are_noticed(t):
    def change(blobs):
        name = max(blobs, key=lambda n: len(blobs[n]))
        data = bytearray(blobs[name])
        data[len(data) // 2] ^= 4
        blobs[name] = bytes(data)
    noise = layer(file("f", random.Random(1).randbytes(100000)))
    refused(t, images.oci_layout(t.path("a"), [noise], change=change), "digest")
    refused(t, images.oci_layout(t.path("b"), [noise], change=change, compress=False), "digest")
    path = images.docker_archive(t.path("i.tar"), [noise])
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[60000] ^= 1
    refused(t, t.write("flipped.tar", data), "digest")


@test(limit=200)
def any_flipped_bit_gives_an_error_or_an_image(t):
    path = images.docker_archive(t.path("i.tar"), [small()])
    with open(path, "rb") as f:
        good = f.read()
    for seed in range(60):
        r = random.Random(seed)
        data = bytearray(good)
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        result = t.run("image", "import", t.write("bad.tar", data), timeout=20)
        check(result.rc in (0, 1), "seed %d: %s" % (seed, result.describe()))
        check(result.rc == 0 or len(result.err.splitlines()) <= 2, result.describe())
    t.leaves_nothing(2)


@test()
def blobs_that_are_missing(t):
    def drop(blobs):
        del blobs[max(blobs, key=lambda n: len(blobs[n]))]
    refused(t, images.oci_layout(t.path("a"), [layer(file("f", b"x" * 9000))], change=drop))


@test()
def json_that_is_none(t):
    def spoil(text):
        def change(blobs):
            for name, data in blobs.items():
                if data.startswith(b'{"schemaVersion"'):
                    blobs[name] = text
        return change
    for i, text in enumerate((b"", b"{", b"[]", b'{"layers": 5}', b"[" * 100000,
                              b'{"config": {"digest": "sha256:../../../etc/passwd"}}')):
        refused(t, images.oci_layout(t.path("l%d" % i), [small()], change=spoil(text)))
    for i, text in enumerate((b"", b"{}", b"[{}]", b'[{"Config": "/etc/passwd", "Layers": []}]',
                              b'[{"Config": "../x", "Layers": ["../../etc/shadow"]}]')):
        with tarfile.open(t.path("d%d.tar" % i), "w") as tar:
            images.add(tar, "manifest.json", text)
        refused(t, t.path("d%d.tar" % i))


@test(limit=120)
def a_bomb_of_zeros(t):
    """A gigabyte of zeros is fine as a file; a bomb must not take memory, whatever it gives."""
    info = tarfile.TarInfo("zeros")
    info.size = 3 << 30
    path = t.path("bomb.tar.gz")
    with gzip.open(path, "wb", 1) as f:
        f.write(info.tobuf())
        for _ in range(100):
            f.write(bytes(1 << 20))
    running = t.start("image", "import", path)
    peak = 0
    while running.process.poll() is None:
        peak = max(peak, peak_kib(running.pid))
        time.sleep(0.02)
    r = running.wait(60)
    check(r.rc == 1 and r.err, r.describe())
    check(peak < 200 * 1024, "it took %d KiB" % peak)


@test(limit=120)
def a_bomb_of_nested_compression(t):
    data = bytes(1 << 20)
    for _ in range(6):
        data = gzip.compress(data)
    r = t.run("image", "import", t.write("nested.tar.gz", data))
    check(r.rc == 1 and r.err, r.describe())


@test(limit=120)
def sizes_that_lie(t):
    for size in (1 << 40, 1 << 62, (1 << 63) - 1):
        info = tarfile.TarInfo("big")
        info.size = size
        refused(t, t.write("lie.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))


@test(limit=120)
def very_many_entries(t):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(30000):
            tar.addfile(tarfile.TarInfo("f%d" % i))
    t.run("image", "import", t.write("many.tar", out.getvalue())).gives()


@test(limit=120)
def very_deep_folders(t):
    for depth in (100, 3000):
        r = t.run("image", "import", t.write("deep.tar", layer(file("d/" * depth + "f", "x"))))
        check(r.rc in (0, 1) and (r.rc == 0 or r.err), r.describe())


@test()
def names_that_lead_out(t):
    t.write("victim", "safe")
    for entries in (
            (file("../../../../../../../../../.." + t.path("victim"), "evil"),),
            (file(t.path("victim"), "evil"),),
            (symlink("l", t.tmp), file("l/victim", "evil")),
            (symlink("l", "../../../../../../../.." + t.tmp), file("l/victim", "evil")),
            (images.hardlink("h", t.path("victim")), file("h", "evil")),
            (images.hardlink("h", "../../../../../../../.." + t.path("victim")),),
            (file("d/./../../x", "evil"),), (file("..", "x"),), (directory("../.."),)):
        r = t.run("image", "import", t.write("evil.tar", layer(directory("etc"), *entries)))
        check(r.rc in (0, 1) and (r.rc == 0 or r.err), r.describe())
        with open(t.path("victim")) as f:
            same(f.read(), "safe", "a file outside of the image")


@test()
def kinds_that_clash(t):
    for entries in (
            (file("d", "x"), file("d/x", "y")),
            (images.entry("d", tarfile.CHRTYPE, device=(1, 3)), file("d/x", "y")),
            (directory("d"), file("d/x"), file("d", "now a file")),
            (symlink("d", "d"), file("d/x", "y")),
            (images.hardlink("h", "missing"),), (images.hardlink("h", "h"),),
            (directory("d"), images.hardlink("h", "d")),
            (file(".wh."), ), (file("d/.wh.."),), (file(".wh..wh.plnk"),)):
        r = t.run("image", "import", t.write("clash.tar", layer(directory("etc"), *entries)))
        check(r.rc in (0, 1) and (r.rc == 0 or r.err), r.describe())


@test()
def names_of_every_kind(t):
    names = ["n" * 255, "a\nb", "\x01\x1b[31m", "ü", " ", "a:b,c", "-x", "\\", "'\""]
    t.run("image", "import", t.write("odd.tar", layer(*(file(n, n) for n in names)))).gives()
    r = t.run("image", "import", t.write("long.tar", layer(file("n" * 256, "x"))))
    check(r.rc == 1 and r.err and len(r.err) < 1000, r.describe())
    r = t.run("image", "import", t.write("esc.tar", layer(file("\x1b[31m" + "n" * 256, "x"))))
    check(b"\x1b" not in r.err, "an escape sequence on the terminal: %s" % r.describe())


@test()
def configurations_that_are_odd(t):
    for config in ({"Cmd": "not a list"}, {"Env": ["no equals", "=x", ""]}, {"User": 5},
                   {"Entrypoint": [1, 2]}, {"WorkingDir": "relative"}, {"StopSignal": "SIGNOPE"},
                   {"Env": ["A=" + "x" * 200000]}, {"Cmd": ["x"] * 100000}, None):
        path = images.docker_archive(t.path("c.tar"), [small()], config)
        r = t.run("image", "import", path, timeout=20)
        check(r.rc in (0, 1) and (r.rc == 0 or r.err), r.describe())
        os.unlink(path)


# ---- hosts that are full, or in the way ------------------------------------------------------

@test()
def a_full_disk(t):
    need_root()
    path = t.write("big.tar", layer(file("f", random.Random(1).randbytes(20 << 20))))
    os.makedirs(t.home)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", t.home],
                       stderr=subprocess.PIPE)
    if r.returncode != 0:
        raise Skip("nothing can be mounted here")
    t.undo.append(lambda: subprocess.run(["umount", "-l", t.home]))
    refused(t, path, "space")
    t.run("image", "import", t.write("small.tar", small())).gives()


@test()
def an_import_that_is_interrupted(t):
    path = t.write("big.tar", layer(file("f", random.Random(1).randbytes(60 << 20))))
    for number, delay in ((signal.SIGINT, 0.05), (signal.SIGTERM, 0.1), (signal.SIGKILL, 0.1)):
        running = t.start("image", "import", path)
        time.sleep(delay)
        running.send(number)
        running.wait(10)
    t.run("image", "import", t.write("small.tar", small())).gives()
    t.leaves_nothing(2)


@test()
def a_database_that_is_damaged(t):
    t.run("image", "import", t.write("small.tar", small())).gives()
    for name in os.listdir(t.home):
        if name.endswith(".db"):
            with open(os.path.join(t.home, name), "r+b") as f:
                f.write(random.Random(1).randbytes(4096))
    for name in ("smolvm.db-wal", "smolvm.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(t.home, name))
    t.run("image", "ls").fails(1, "smolvm.db")


@test()
def a_file_of_an_image_that_is_gone(t):
    t.run("image", "import", t.write("small.tar", small()), "--name", "x").gives()
    os.unlink(json.loads(t.run("image", "inspect", "x").gives().out)[0]["rootfs_path"])
    r = t.run("image", "import", t.path("small.tar")).gives()
    check(os.path.exists(json.loads(t.run("image", "inspect", "x").gives().out)[0]["rootfs_path"]),
          r.describe())


main()
