#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shared folders from inside a guest: a POSIX file-system test, fsx, fio, the host's changes."""

from lib import *

TOOLS = os.path.join(BUILD, "tests", "tools")


def inside(t, *command, flags=(), limit=90):
    """Runs a command of the test tools in a guest, with the folder "shared" at /s."""
    if not os.path.exists(os.path.join(TOOLS, "posixfs")):
        raise Skip("the test tools are not built")
    return t.sandbox("-v", TOOLS + ":/t:ro", "-v", t.folder("shared") + ":/s", *flags, "--",
                     *command, timeout=limit)


def good_tap(result):
    bad = [l for l in result.out.decode().splitlines() if l.startswith("not ok")]
    check(not bad and b"\nok " in b"\n" + result.out, "failed: %s\n%s" % (bad, result.describe()))
    same(result.rc, 0, "exit code")


@test(limit=120)
def posix_semantics(t):
    good_tap(inside(t, "/t/posixfs", "/s"))


@test(limit=120)
def posix_semantics_without_privilege(t):
    os.chmod(t.folder("shared"), 0o777)
    t.become_nobody()
    tools = t.folder("tools")
    for name in ("posixfs", "fsx"):
        shutil.copy(os.path.join(TOOLS, name), tools)
        os.chmod(os.path.join(tools, name), 0o755)
    r = t.sandbox("-v", tools + ":/t:ro", "-v", t.path("shared") + ":/s", "--", "/t/posixfs", "-m",
                  "/s", timeout=90)
    good_tap(r)


@test(limit=120)
def random_operations_against_a_model(t):
    good_tap(inside(t, "/t/fsx", "-n", "1500", "-s", str(random.randrange(1 << 30)), "/s/file"))


@test(limit=120)
def fio_verifies(t):
    need_root()
    need_tool("fio")
    enter = "mount --bind /dev /host/dev && mount --bind /proc /host/proc && exec chroot /host "
    job = ("cd /mnt && fio --name=v --directory=/mnt --rw=randrw --bs=4k-128k --size=6m "
           "--verify=crc32c --ioengine=%s --minimal >/dev/null")
    jobs = "%s && %s && echo good" % (job % "psync", job % "mmap")
    r = t.sandbox("-v", "/:/host:ro", "-v", t.folder("shared") + ":/host/mnt", "--", "sh", "-c",
                  enter + "/bin/sh -c '%s'" % jobs, timeout=100)
    r.gives(0, b"good\n")


@test()
def a_hundred_megabytes_arrive_whole(t):
    data = os.urandom(1 << 20) * 100
    t.write("shared/in", data)
    r = inside(t, "sh", "-c", "sha256sum < /s/in; cp /s/in /s/out; sha256sum < /s/out")
    import hashlib
    digest = hashlib.sha256(data).hexdigest()
    same([l.split()[0] for l in r.text().splitlines()], [digest, digest], "digests")
    with open(t.path("shared", "out"), "rb") as f:
        same(hashlib.sha256(f.read()).hexdigest(), digest, "the copy on the host")


main()
