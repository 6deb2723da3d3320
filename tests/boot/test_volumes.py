#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run -v: folders and files of the host in the guest."""

import socket

from lib import *


def sh(t, volumes, script, *args, **more):
    flags = [x for v in volumes for x in ("-v", v)]
    return t.sandbox(*flags, *args, "--", "sh", "-c", script, **more)


def content(path):
    with open(path, "rb") as f:
        return f.read()


@test()
def a_folder_is_seen_and_written(t):
    t.write("d/in", "from the host\n")
    sh(t, [t.path("d") + ":/data"], "cat /data/in; echo from the guest >/data/out").gives(
        0, b"from the host\n", b"")
    same(content(t.path("d/out")), b"from the guest\n", "what the guest wrote")


@test()
def a_read_only_folder_refuses_writes(t):
    t.write("d/in", "x")
    r = sh(t, [t.path("d") + ":/data:ro"],
           "cat /data/in; echo y >/data/in; echo y >/data/new; rm /data/in; mkdir /data/d; "
           "chmod 600 /data/in; mv /data/in /data/b; touch /data/in; ln /data/in /data/c; true")
    check(r.rc == 0 and r.out == b"x" and r.err.count(b"ead-only file system") >= 7, r.describe())
    same(os.listdir(t.path("d")), ["in"], "the folder")
    same(content(t.path("d/in")), b"x", "the file")


@test()
def a_relative_path_is_taken_from_here(t):
    t.write("d/in", "here\n")
    sh(t, ["./d:/data"], "cat /data/in").gives(0, b"here\n")
    sh(t, [".:/data"], "cat /data/d/in").gives(0, b"here\n")


@test()
def a_missing_mount_point_is_made(t):
    t.write("d/in", "x\n")
    sh(t, [t.path("d") + ":/a/b/c/d"], "cat /a/b/c/d/in").gives(0, b"x\n")
    sh(t, [t.path("d/in") + ":/a/b/file"], "cat /a/b/file").gives(0, b"x\n")


@test()
def a_mount_point_may_be_anywhere(t):
    t.write("d/in", "x\n")
    for where in ("/etc", "/usr/share", "/tmp/t", "/root", "/mnt", "/run/x", "/dev/shm/x", "/home"):
        t.sandbox("-v", t.path("d") + ":" + where, "--", "/bin/cat", where + "/in").gives(
            0, b"x\n")


@test()
def a_mount_point_works_in_a_read_only_root(t):
    t.write("d/in", "x\n")
    sh(t, [t.path("d") + ":/brand/new"], "cat /brand/new/in; echo y >/brand/new/out",
       "--read-only").gives(0, b"x\n")


@test()
def nested_mounts(t):
    t.write("outer/a", "1\n")
    t.write("outer/sub/hidden", "no\n")
    t.write("inner/b", "2\n")
    t.write("deep/c", "3\n")
    t.write("single", "4\n")
    volumes = [t.path("outer") + ":/data", t.path("inner") + ":/data/sub",
               t.path("deep") + ":/data/sub/deep:ro", t.path("single") + ":/data/a"]
    sh(t, volumes, "cd /data; cat a sub/b sub/deep/c; ls sub; echo n >sub/new").gives(
        0, b"4\n2\n3\nb\ndeep\n")
    same(content(t.path("inner/new")), b"n\n", "written through the inner mount")
    same(content(t.path("outer/a")), b"1\n", "the file that was covered")


@test()
def a_single_file(t):
    name = t.write("file", "one\n")
    t.write("neighbour", "not shared\n")
    sh(t, [name + ":/etc/motd"], "cat /etc/motd; echo two >>/etc/motd; ls /etc | grep -c neighb"
       ).gives(1, b"one\n0\n")
    same(content(name), b"one\ntwo\n", "the file")
    r = sh(t, [name + ":/etc/motd:ro"], "cat /etc/motd; echo three >>/etc/motd")
    check(r.rc != 0 and b"ead-only" in r.err, r.describe())


@test()
def the_same_folder_twice(t):
    t.write("d/in", "x\n")
    sh(t, [t.path("d") + ":/rw", t.path("d") + ":/ro:ro"],
       "echo y >/rw/new; cat /ro/new; echo z 2>/dev/null >/ro/new || echo refused").gives(
        0, b"y\nrefused\n")


@test()
def odd_names_of_files(t):
    names = ["with space", "comma,", "col:on", "ünïcode", "new\nline", "'\"`$x", "-dash", "#",
             "back\\slash", "x" * 255, ".hidden", "tab\t"]
    t.folder("d")
    for name in names:
        t.write("d/" + name, name)
    r = sh(t, [t.path("d") + ":/data"], 'cd /data; for f in * .hidden; do cat "./$f" >/dev/null && '
           'cp "./$f" "./$f.c" 2>/dev/null; [ ${#f} -lt 250 ] && cat "./$f.c" >/dev/null; done; '
           'ls -A | wc -l')
    check(r.rc == 0, r.describe())
    for name in names:
        if len(name) < 250:
            same(content(t.path("d", name + ".c")), name.encode(), "copy of %r" % name)


@test()
def a_name_of_bytes_that_are_no_text(t):
    folder = t.folder("d").encode()
    with open(folder + b"/\xff\xfe", "wb") as f:
        f.write(b"odd\n")
    sh(t, [t.path("d") + ":/data"], "cat /data/*").gives(0, b"odd\n")


@test()
def odd_names_of_folders(t):
    for name in ("with space", "comma,x", "ünïcode", "'q\"uote", "$(x)", "a\\b"):
        t.write(name + "/in", "x\n")
        sh(t, [t.path(name) + ":/data/" + name],
           "cat /data/*/in").gives(0, b"x\n")


@test()
def a_colon_in_a_name_goes_with_mount(t):
    t.write("a:b/in", "x\n")
    r = t.sandbox("--mount", "type=bind,source=%s,target=/data" % t.path("a:b"), "--", "cat",
                  "/data/in")
    r.gives(0, b"x\n")
    r = sh(t, [t.path("a:b") + ":/data"], "true")
    check(r.rc in (0, 125), r.describe())


@test()
def changes_on_the_host_are_seen(t):
    name = t.write("d/state", "one\n")
    running = t.start_sandbox("-v", t.path("d") + ":/data", "--", "sh", "-c",
                              "cat /data/state; ls /data; while [ ! -e /data/go ]; do sleep 0.1; "
                              "done; cat /data/state; ls /data")
    running.says(b"one\nstate\n")
    os.unlink(name)
    t.write("d/state", "two, and longer\n")
    t.write("d/extra", "x")
    time.sleep(1.1)
    t.write("d/go", "x")
    r = running.wait()
    r.gives(0, b"one\nstate\ntwo, and longer\nextra\ngo\nstate\n")


@test()
def changes_of_the_guest_are_seen_at_once(t):
    t.folder("d")
    running = t.start_sandbox("-v", t.path("d") + ":/data", "--", "sh", "-c",
                              "echo x >/data/made; echo done; sleep 1000")
    running.says(b"done\n")
    same(content(t.path("d/made")), b"x\n", "what the guest wrote")
    running.send(signal.SIGKILL)


@test()
def renames_links_and_removals(t):
    t.folder("d")
    script = """
        cd /data; echo 1 >a; mv a b; cat b; ln b c; echo 2 >>c; cat b; ln -s b s; cat s
        readlink s; mkdir -p x/y/z; mv x w; ls w/y; rmdir w/y/z; rm -r w; rm c; stat -c %h b
        echo over >o; mv o b; cat b; touch -d '2001-02-03 04:05:06' b; chmod 640 b
        stat -c '%a %Y' b; mkfifo p; stat -c %F p; rm p s
    """
    r = sh(t, [t.path("d") + ":/data"], "set -e; " + script)
    r.gives(0, b"1\n1\n2\n1\n2\nb\nz\n1\nover\n640 981173106\nfifo\n", b"")
    same(sorted(os.listdir(t.path("d"))), ["b"], "what is left")
    st = os.stat(t.path("d/b"))
    same((stat.S_IMODE(st.st_mode), int(st.st_mtime)), (0o640, 981173106), "mode and time")


@test()
def an_open_file_outlives_its_name(t):
    t.write("d/a", "still here\n")
    sh(t, [t.path("d") + ":/data"],
       "exec 3</data/a; rm /data/a; cat <&3; exec 4>/data/b 5</data/b; rm /data/b; echo new >&4; "
       "cat <&5; ls -A /data | wc -l").gives(0, b"still here\nnew\n0\n")


@test()
def sparse_files_stay_sparse(t):
    t.folder("d")
    sh(t, [t.path("d") + ":/data"], "truncate -s 1G /data/big; echo x >>/data/big; "
       "stat -c %s /data/big; tail -c 2 /data/big").gives(0, b"1073741826\nx\n")
    st = os.stat(t.path("d/big"))
    check(st.st_size == 1073741826 and st.st_blocks * 512 < 1 << 20, "blocks: %d" % st.st_blocks)


@test()
def many_files(t):
    t.folder("d")
    for i in range(1500):
        t.write("d/h%d" % i, "x")
    sh(t, [t.path("d") + ":/data"], "cd /data; ls | wc -l; i=0; while [ $i -lt 1500 ]; do "
       "echo x >g$i; i=$((i+1)); done; ls | wc -l; cat h* g* | wc -c; rm g*; ls | wc -l",
       ).gives(0, b"1500\n3000\n4500\n1500\n")


@test()
def a_large_file_passes_both_ways(t):
    data = random.Random(5).randbytes(32 << 20)
    t.write("d/in", data)
    sh(t, [t.path("d") + ":/data"], "cp /data/in /data/out && cmp /data/in /data/out && echo same"
       ).gives(0, b"same\n")
    check(content(t.path("d/out")) == data, "the copy differs")


@test()
def links_do_not_lead_out_of_the_folder(t):
    t.write("secret", "host secret\n")
    t.folder("d")
    os.symlink(t.path("secret"), t.path("d/absolute"))
    os.symlink("../secret", t.path("d/relative"))
    r = sh(t, [t.path("d") + ":/data"], "cat /data/absolute /data/relative; ls /data/..; true")
    check(b"host secret" not in r.out, "the guest read a file outside: %s" % r.describe())


@test()
def the_top_is_the_guests_own_parent(t):
    t.folder("d")
    sh(t, [t.path("d") + ":/a/data"], "cd /a/data/.. && pwd && ls").gives(0, b"/a\ndata\n")


@test()
def sockets_and_devices_of_the_host_are_shown_only(t):
    t.folder("d")
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(t.path("d"))
    try:
        s.bind("sock")
    finally:
        os.chdir(here)
    r = sh(t, [t.path("d") + ":/data"], "stat -c %F /data/sock; cat /data/sock; echo")
    check(b"socket" in r.out, r.describe())
    s.close()


@test()
def a_folder_of_the_hosts_where_it_may_not_write(t):
    need_root()
    t.become_nobody()
    t.write("d/in", "x\n")
    os.chmod(t.path("d"), 0o755)
    r = sh(t, [t.path("d") + ":/data"], "cat /data/in; echo y >/data/new")
    check(r.out == b"x\n" and r.rc != 0 and b"ermission denied" in r.err, r.describe())


@test()
def an_unprivileged_user_owns_what_the_guest_makes(t):
    t.become_nobody()
    uid = t.user if t.user is not None else os.getuid()
    folder = t.folder("d")
    if AS_ROOT:
        os.chown(folder, uid, uid)
    sh(t, [folder + ":/data"], "echo x >/data/made; mkdir /data/dir; stat -c %u /data /data/made; "
       "chmod 600 /data/made && cat /data/made").gives(0, b"0\n0\nx\n")
    for name in ("made", "dir"):
        same(os.stat(os.path.join(folder, name)).st_uid, uid, "owner of " + name)


@test()
def an_unprivileged_users_files_belong_to_the_guests_user(t):
    t.become_nobody()
    uid = t.user if t.user is not None else os.getuid()
    folder = t.folder("d")
    if AS_ROOT:
        os.chown(folder, uid, uid)
    sh(t, [folder + ":/data"], "stat -c %u /data; echo x >/data/made && stat -c %u /data/made",
       "-u", "1234").gives(0, b"1234\n1234\n")
    same(os.stat(os.path.join(folder, "made")).st_uid, uid, "owner")


@test()
def root_keeps_owners(t):
    need_root()
    t.write("d/in", "x")
    os.chown(t.path("d/in"), 4321, 1234)
    sh(t, [t.path("d") + ":/data"], "stat -c %u:%g /data/in; chown 11:22 /data/in").gives(
        0, b"4321:1234\n")
    st = os.stat(t.path("d/in"))
    same((st.st_uid, st.st_gid), (11, 22), "owner after the guest's chown")


@test()
def working_in_a_shared_folder(t):
    t.write("d/run.sh", "#!/bin/sh\necho running in $(pwd)\n", 0o755)
    t.sandbox("-v", t.path("d") + ":/work", "-w", "/work", "--", "./run.sh").gives(
        0, b"running in /work\n")


@test()
def a_link_as_the_hosts_path_is_followed_once(t):
    t.write("real/in", "x\n")
    os.symlink("real", t.path("link"))
    sh(t, [t.path("link") + ":/data"], "cat /data/in").gives(0, b"x\n")


@test()
def many_volumes(t):
    volumes = []
    for i in range(12):
        t.write("v%d/in" % i, "%d\n" % i)
        volumes.append("%s:/v/%d" % (t.path("v%d" % i), i))
    sh(t, volumes, "cat /v/*/in | sort -n").gives(
        0, b"".join(b"%d\n" % i for i in range(12)))


main()
