#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run IMAGE: images of every kind, run; what their configuration asks for."""

import images
from images import directory, file, layer, opaque, symlink, whiteout

from lib import *

# What a shared folder must do that a shell cannot ask for; runs in the guest.
POSIX = """
import errno, fcntl, mmap, os
os.chdir('/data')

def fails(number, call, *args):
    try:
        call(*args)
    except OSError as e:
        assert e.errno == number, (call, args, e)
    else:
        raise AssertionError((call, args))

with open('f', 'wb') as f:
    f.write(b'a' * 8192)
with open('f', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[0:3] = b'xyz'
    m.flush()
    assert open('f', 'rb').read(4) == b'xyza'

os.setxattr('f', 'user.a', b'v')
assert os.getxattr('f', 'user.a') == b'v' and os.listxattr('f') == ['user.a']
os.removexattr('f', 'user.a')
fails(errno.ENODATA, os.getxattr, 'f', 'user.a')

def child(call):
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except OSError as e:
            os._exit(e.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

with open('f', 'r+b') as f:
    again = lambda how: lambda: how(open('f', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(f, fcntl.LOCK_EX)
    assert child(again(fcntl.flock)) == errno.EAGAIN
    fcntl.flock(f, fcntl.LOCK_UN)
    assert child(again(fcntl.flock)) == 0
    fcntl.lockf(f, fcntl.LOCK_EX)
    assert child(again(fcntl.lockf)) in (errno.EAGAIN, errno.EACCES)
    fcntl.lockf(f, fcntl.LOCK_UN)
    assert child(again(fcntl.lockf)) == 0

fails(errno.EEXIST, os.mkdir, 'f')
fails(errno.ENOENT, os.open, 'no', os.O_RDONLY)
fails(errno.EEXIST, os.open, 'f', os.O_CREAT | os.O_EXCL)
fails(errno.ENOTDIR, os.open, 'f/x', os.O_RDONLY)
fails(errno.ENAMETOOLONG, os.mkdir, 'n' * 256)
os.makedirs('d/e')
fails(errno.ENOTEMPTY, os.rmdir, 'd')
fails(errno.EISDIR, os.unlink, 'd')
fails(errno.EINVAL, os.rename, 'd', 'd/e/d')
os.rename('d/e', 'e')
os.rmdir('e')
os.rmdir('d')
fd = os.open('h', os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b'end', 1 << 20)
assert os.lseek(fd, 0, os.SEEK_HOLE) == 0 and os.fstat(fd).st_size == (1 << 20) + 3
os.posix_fallocate(fd, 0, 4096)
os.ftruncate(fd, 10)
os.fsync(fd)
os.unlink('h')
os.pwrite(fd, b'x', 0)
assert os.fstat(fd).st_nlink == 0
os.close(fd)
a = os.open('app', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
b = os.open('app', os.O_WRONLY | os.O_APPEND)
for i in range(50):
    os.write(a, b'a')
    os.write(b, b'b')
assert open('app', 'rb').read() == b'ab' * 50
names = {'n%d' % i for i in range(700)}
for n in names:
    open(n, 'w').close()
assert {e.name for e in os.scandir('.') if e.name[0] == 'n'} == names
for e in os.scandir('.'):
    if e.name in names:
        os.unlink(e.name)
assert not any(n in names for n in os.listdir('.'))
assert os.statvfs('.').f_blocks > 0
print('all fine')
"""
_busybox = []


def busybox():
    if not _busybox:
        _busybox.append(images.busybox_layer())
    return _busybox[0]


def archive(t, config=None, *more_layers, **more):
    return images.docker_archive(t.path("image.tar"), [busybox(), *more_layers], config, **more)


@test()
def a_docker_archive(t):
    extra = layer(file("etc/motd", "second layer\n"))
    t.sandbox(archive(t, None, extra), "--", "cat", "/etc/motd").gives(0, b"second layer\n")


@test()
def an_oci_layout_as_a_folder(t):
    path = images.oci_layout(t.path("layout"), [busybox(), layer(file("f", "oci\n"))])
    t.sandbox(path, "--", "cat", "/f").gives(0, b"oci\n")
    t.sandbox("./layout", "--", "cat", "/f").gives(0, b"oci\n")


@test()
def an_oci_layout_as_a_tar(t):
    images.oci_layout(t.path("layout"), [busybox(), layer(file("f", "oci\n"))])
    path = images.tar_of(t.path("layout"), t.path("layout.tar"))
    t.sandbox(path, "--", "cat", "/f").gives(0, b"oci\n")


@test()
def a_root_file_system_as_a_folder(t):
    images.root_folder(t.path("root"), busybox())
    t.write("root/f", "folder\n")
    t.sandbox(t.path("root"), "--", "cat", "/f").gives(0, b"folder\n")
    t.write("root/f", "changed\n")
    t.sandbox(t.path("root"), "--", "cat", "/f").gives(0, b"changed\n")


@test()
def a_root_file_system_as_a_tar_in_any_compression(t):
    plain = t.write("root.tar", busybox())
    t.sandbox(plain, "--", "echo", "tar").gives(0, b"tar\n")
    for tool, ending in (("gzip", ".tar.gz"), ("xz", ".tar.xz"), ("bzip2", ".tar.bz2"),
                         ("zstd", ".tar.zst")):
        if not shutil.which(tool):
            continue
        with open(plain, "rb") as f, open(t.path("root" + ending), "wb") as out:
            subprocess.run([tool, "-1c"], stdin=f, stdout=out, check=True)
        t.sandbox(t.path("root" + ending), "--", "echo", tool).gives(0, tool.encode() + b"\n")


@test()
def an_image_on_standard_input(t):
    with open(archive(t), "rb") as f:
        data = f.read()
    t.sandbox("-", "--", "echo", "piped", stdin=data).gives(0, b"piped\n")
    with open(t.path("image.tar"), "rb") as f:
        t.sandbox("-", "--", "echo", "file", stdin=f).gives(0, b"file\n")


@test()
def an_image_of_the_store_by_its_name_and_id(t):
    r = t.run("image", "import", archive(t, None, tags=("my/tool:1.2",))).gives()
    check(b"tool:1.2" in r.out + r.err, r.describe())
    os.unlink(t.path("image.tar"))
    t.sandbox("my/tool:1.2", "--", "echo", "by name").gives(0, b"by name\n")
    images_here = json.loads(t.run("image", "ls", "--json").gives().out)
    ours = [i for i in images_here if any("my/tool:1.2" in n for n in i["names"])]
    check(len(ours) == 1, "images: %s" % images_here)
    digits = ours[0]["id"].split(":")[1]
    t.sandbox(digits[:12], "--", "echo", "by id").gives(0, b"by id\n")
    t.run("image", "rm", "my/tool:1.2").gives()
    t.sandbox("my/tool:1.2", "--", "true").fails(125, "my/tool:1.2")


@test()
def the_same_image_again_costs_nothing(t):
    path = archive(t, None, layer(file("big", random.Random(6).randbytes(40 << 20))))
    t.run("image", "import", path).gives()
    before = os.stat(path)
    started = time.monotonic()
    t.run("image", "import", path).gives()
    check(time.monotonic() - started < 0.5, "%.2f s" % (time.monotonic() - started))
    same(os.stat(path).st_mtime, before.st_mtime, "the archive's time")
    same(len(json.loads(t.run("image", "ls", "--json").out)), 1, "images")


# ---- layers ----------------------------------------------------------------------------------

@test()
def whiteouts_and_opaque_folders(t):
    first = layer(directory("d"), file("d/a", "1"), file("d/b", "2"), directory("o"),
                  file("o/old", "3"), directory("gone"), file("gone/x", "4"))
    second = layer(whiteout("d/a"), directory("o"), opaque("o"), file("o/new", "5"),
                   whiteout("gone"))
    third = layer(directory("gone"), file("gone/y", "6"))
    t.sandbox(archive(t, None, first, second, third), "--", "sh", "-c", "ls d o gone").gives(
        0, b"d:\nb\n\ngone:\ny\n\no:\nnew\n")


@test()
def what_a_file_system_can_hold(t):
    import tarfile
    odd = "n" * 255
    extra = layer(
        directory("z"), file("z/suid", "x", 0o4755), file("z/owned", "x", uid=12345, gid=54321),
        file("z/old", "x", mtime=86400), symlink("z/link", "/z/old"),
        images.hardlink("z/hard", "z/old"),
        images.entry("z/fifo", tarfile.FIFOTYPE, mode=0o600),
        images.entry("z/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
        file("z/" + odd, "long"), file("z/new\nline", "odd"), file("z/ünï", "text"),
        file("z/empty"), file("z/big", b"B" * 3000000))
    script = """
        cd /z; stat -c '%a' suid; stat -c '%u:%g' owned; stat -c %Y old; readlink link
        stat -c '%h' old hard; stat -c '%F' fifo null; echo x >null; cat n*n; echo; cat new*; echo
        cat ünï; echo; wc -c <big; wc -c <empty; ls | wc -l
    """
    t.sandbox(archive(t, None, extra), "--", "sh", "-c", script).gives(0, (
        "4755\n12345:54321\n86400\n/z/old\n2\n2\nfifo\ncharacter special file\nlong\nodd\ntext\n"
        "3000000\n0\n12\n").encode())


@test()
def a_file_of_a_lower_layer_can_be_changed(t):
    extra = layer(file("f", "before\n"), directory("d"), file("d/x", "1\n"))
    t.sandbox(archive(t, None, extra), "--", "sh", "-c",
              "echo after >>/f; cat /f; mv /d /e; cat /e/x; rm -r /e; ls -d /e 2>&1 | wc -l").gives(
                  0, b"before\nafter\n1\n1\n")


# ---- the configuration -----------------------------------------------------------------------

@test()
def entrypoint_and_command(t):
    path = archive(t, {"Entrypoint": ["echo", "entry"], "Cmd": ["default"]})
    t.sandbox(path).gives(0, b"entry default\n")
    t.sandbox(path, "mine", "too").gives(0, b"entry mine too\n")
    t.sandbox("--entrypoint", "/bin/pwd", path).gives(0, b"/\n")
    t.sandbox("--entrypoint", "", path, "echo", "none").gives(0, b"none\n")


@test()
def an_image_that_says_nothing_needs_a_command(t):
    t.sandbox(archive(t, {})).fails(125, "command")


@test()
def its_environment(t):
    path = archive(t, {"Env": ["PATH=/special:/bin", "A=image", "B=image"], "Cmd": ["env"]})
    lines = t.sandbox("-e", "A=mine", path).gives().text().splitlines()
    for wanted in ("PATH=/special:/bin", "A=mine", "B=image"):
        check(wanted in lines, "no %s in %s" % (wanted, lines))
    same(sum(x.startswith("A=") for x in lines), 1, "times that A is set")


@test()
def its_path_finds_the_command(t):
    path = archive(t, {"Env": ["PATH=/tools:/bin"]}, layer(
        directory("tools"), file("tools/mytool", "#!/bin/sh\necho found\n", 0o755)))
    t.sandbox(path, "mytool").gives(0, b"found\n")


@test()
def its_folder(t):
    path = archive(t, {"WorkingDir": "/home/alice", "Cmd": ["pwd"]})
    t.sandbox(path).gives(0, b"/home/alice\n")
    t.sandbox("-w", "/tmp", path).gives(0, b"/tmp\n")


@test()
def its_user(t):
    show = ["sh", "-c", "echo $(id -u):$(id -g) $(id -G) $HOME"]
    for user, wanted in (("alice", b"1000:1001 1001 50 /home/alice\n"),
                         ("1000", b"1000:1001 1001 50 /home/alice\n"),
                         ("alice:staff", b"1000:50 50 /home/alice\n"),
                         ("77:88", b"77:88 88 /\n"), ("", b"0:0 0 /root\n")):
        r = t.sandbox(archive(t, {"User": user}), "--", *show).gives()
        check(r.out == wanted or (user == "" and r.out.startswith(b"0:0")),
              "user %r: wanted %r of %s" % (user, wanted, r.describe()))
    r = t.sandbox("-u", "alice", archive(t, {"User": "77"}), "--", "id", "-un")
    r.gives(0, b"alice\n")


@test()
def its_stop_signal(t):
    path = archive(t, {"StopSignal": "SIGUSR1"})
    running = t.start_sandbox(path, "--", "sh", "-c",
                              "trap 'echo usr1; exit 9' USR1; trap 'exit 8' TERM; echo up; "
                              "while :; do sleep 0.1; done")
    running.says(b"up\n")
    running.send(signal.SIGTERM)
    r = running.wait(25)
    check(r.rc in (8, 9), r.describe())


@test()
def an_image_for_another_architecture(t):
    config = images.configuration([busybox()], {})
    data = json.loads(config)
    data["architecture"] = "s390x"
    keep = images.configuration
    images.configuration = lambda layers, c: json.dumps(data).encode()
    try:
        path = archive(t)
    finally:
        images.configuration = keep
    r = t.sandbox(path, "--", "true")
    check(r.rc == 0 or (r.rc == 125 and b"s390x" in r.err), r.describe())


# ---- real ones -------------------------------------------------------------------------------

@test(limit=400)
def python_of_debian(t):
    path = images.copy_cached(images.python_archive, "python-2.tar")
    r = t.run("image", "import", path, timeout=120).gives()
    t.sandbox("python:test").gives(0, b"hello from /app/hello.py\n")
    r = t.sandbox("python:test", "python3", "-c", "print(6 * 7)")
    r.gives(0, b"42\n", b"")
    t.write("d/posix.py", POSIX)
    r = t.sandbox("-v", t.path("d") + ":/data", "python:test", "python3", "/data/posix.py")
    r.gives(0, b"all fine\n", b"")
    with open(t.path("d/f"), "rb") as f:
        same(f.read(4), b"xyza", "what was written through the mapping")


@test(limit=400)
def a_root_file_system_of_debian(t):
    path = images.python_rootfs()
    r = t.sandbox(path, "--", "sh", "-c", ". /etc/os-release; echo $ID; dpkg --verify; echo $?",
                  timeout=200)
    check(r.rc == 0 and r.out.startswith(b"debian\n") and r.out.endswith(b"\n0\n"), r.describe())


main()
