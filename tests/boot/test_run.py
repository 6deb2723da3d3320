#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run: the command, its exit code, its surroundings, its root file system."""

from lib import *


# ---- the command and its exit code -----------------------------------------------------------

@test()
def runs_a_command_in_the_embedded_image(t):
    r = t.sandbox("--", "uname", "-a").gives()
    check(b"Linux" in r.out, r.describe())
    check(r.err == b"", "it said something: %s" % r.describe())


@test()
def has_a_kernel_of_its_own(t):
    with open("/proc/sys/kernel/random/boot_id") as f:
        host = f.read().strip()
    guest = t.sandbox("--", "cat", "/proc/sys/kernel/random/boot_id").gives().text()
    check(len(guest) == len(host) and guest != host, "the guest's kernel is the host's: %s" % guest)


@test()
def passes_exit_codes(t):
    for code in (0, 1, 42, 255):
        t.sandbox("--", "sh", "-c", "exit %d" % code).gives(code, b"", b"")


@test()
def reports_a_signal_as_128_plus_n(t):
    t.sandbox("--", "sh", "-c", "kill -9 $$").gives(137)
    t.sandbox("--", "sh", "-c", "kill -SEGV $$").gives(139)


@test()
def says_127_for_a_command_that_is_not_there(t):
    t.sandbox("--", "no-such-command").fails(127, "no-such-command")
    t.sandbox("--", "/no/such/command").fails(127, "/no/such/command")


@test()
def says_126_for_a_file_that_cannot_be_executed(t):
    t.sandbox("--", "/etc/passwd").fails(126, "/etc/passwd")
    t.sandbox("--", "/etc").fails(126, "/etc")


@test()
def needs_no_dashes_before_a_command_with_an_image(t):
    t.sandbox("busybox", "echo", "-n", "a  b").gives(0, b"a  b")
    t.sandbox("busybox", "--", "echo", "--cpus").gives(0, b"--cpus\n")


@test()
def keeps_arguments_as_they_are(t):
    arguments = ["", " ", "a b", "*", "$HOME", "'", '"', "\\", "-x", "--", "ü", "a\nb", "%s"]
    r = t.sandbox("--", "sh", "-c", 'printf "[%s]" "$@"', "sh", *arguments)
    r.gives(0, "".join("[%s]" % a for a in arguments).encode(), b"")


@test()
def takes_long_arguments(t):
    text = "x" * 100000
    t.sandbox("--", "sh", "-c", 'echo ${#1}', "sh", text).gives(0, b"100000\n")


@test()
def takes_many_arguments(t):
    t.sandbox("--", "sh", "-c", 'echo $#', "sh", *map(str, range(5000))).gives(0, b"5000\n")


@test()
def ends_with_the_command_although_children_go_on(t):
    r = t.sandbox("--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo done", timeout=20)
    r.gives(0, b"done\n")


@test()
def reaps_orphans(t):
    script = "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 0.5; ps -o stat | grep -c ^Z"
    same(t.sandbox("--", "sh", "-c", script).text(), "0", "zombies in the guest")


# ---- environment -----------------------------------------------------------------------------

@test()
def sets_environment_variables(t):
    r = t.sandbox("-e", "A=1", "-e", "B=x y=z", "--env", "C=", "-e", "FROM_HOST", "-e", "UNSET_ONE",
                  "--", "env", env={"FROM_HOST": "yes", "UNSET_ONE": None}).gives()
    lines = r.text().splitlines()
    for wanted in ("A=1", "B=x y=z", "C=", "FROM_HOST=yes"):
        check(wanted in lines, "no %s in %s" % (wanted, lines))
    check(not any(x.startswith(("UNSET_ONE", "SMOLVM_HOME")) for x in lines), r.describe())
    check(any(x.startswith("PATH=/") for x in lines), "no PATH")
    check(any(x.startswith("HOME=/root") for x in lines), "no HOME")


@test()
def reads_env_files(t):
    name = t.write("env", "# a comment\n\nA=1\nB= with spaces \nC=\"quotes stay\"\r\nFROM_HOST\n")
    r = t.sandbox("--env-file", name, "-e", "A=2", "--", "env", env={"FROM_HOST": "yes"}).gives()
    lines = r.out.decode().split("\n")
    for wanted in ("A=2", "B= with spaces ", 'C="quotes stay"', "FROM_HOST=yes"):
        check(wanted in lines, "no %r in %s" % (wanted, lines))


@test()
def keeps_the_environment_of_the_host_out(t):
    r = t.sandbox("--", "env", env={"SECRET_TOKEN": "hunter2"}).gives()
    check(b"hunter2" not in r.out, "a variable of the host is in the guest")


# ---- directory, user, names ------------------------------------------------------------------

@test()
def starts_in_the_root_folder(t):
    t.sandbox("--", "pwd").gives(0, b"/\n")


@test()
def starts_in_a_named_folder(t):
    t.sandbox("-w", "/tmp", "--", "pwd").gives(0, b"/tmp\n")
    t.sandbox("--workdir=/new/folder", "--", "pwd").gives(0, b"/new/folder\n")


@test()
def runs_as_a_user(t):
    t.sandbox("-u", "1000", "--", "id", "-u").gives(0, b"1000\n")
    t.sandbox("-u", "1234:4321", "--", "sh", "-c", "echo $(id -u):$(id -g)").gives(
        0, b"1234:4321\n")
    t.sandbox("--user", "root", "--", "id", "-u").gives(0, b"0\n")


@test()
def refuses_a_user_that_is_not_there(t):
    t.sandbox("-u", "nosuchuser", "--", "id").fails(125, "nosuchuser")
    t.sandbox("-u", "0:nosuchgroup", "--", "id").fails(125, "nosuchgroup")


@test()
def users_are_held_to_their_rights(t):
    r = t.sandbox("-u", "1000", "--", "sh", "-c", "echo x >/etc/x")
    check(r.rc != 0 and b"ermission denied" in r.err, r.describe())


@test()
def sets_the_host_name(t):
    t.sandbox("--hostname", "box.example", "--", "hostname").gives(0, b"box.example\n")
    t.sandbox("--hostname", "box", "--", "cat", "/etc/hostname").gives(0, b"box\n")


@test()
def knows_itself_by_its_host_name(t):
    r = t.sandbox("--hostname", "box", "--", "cat", "/etc/hosts").gives()
    check(b"localhost" in r.out and b"box" in r.out, r.describe())


@test()
def is_called_by_its_name(t):
    t.sandbox("--name", "my-machine", "--", "hostname").gives(0, b"my-machine\n")


@test()
def refuses_a_name_that_is_taken(t):
    first = t.start_sandbox("--name", "one", "--", "sh", "-c", "echo up; sleep 1000")
    first.says(b"up")
    t.sandbox("--name", "one", "--", "true").fails(125, "one")
    t.sandbox("--name", "two", "--", "true").gives()
    first.send(signal.SIGKILL)
    first.wait()
    t.leaves_nothing()
    t.sandbox("--name", "one", "--", "true").gives()


@test()
def replaces_the_entrypoint(t):
    t.sandbox("--entrypoint", "/bin/echo", "busybox", "a", "b").gives(0, b"a b\n")


# ---- resources -------------------------------------------------------------------------------

@test()
def gives_virtual_cpus(t):
    t.sandbox("--", "nproc").gives(0, b"1\n")
    t.sandbox("--cpus", "2", "--", "nproc").gives(0, b"2\n")


@test()
def two_cpus_work_at_once(t):
    script = ("for i in 1 2; do (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i) & "
              "done; wait")
    t.sandbox("--cpus", "2", "--", "sh", "-c", script).gives(0, b"20000\n20000\n")


@test()
def gives_memory(t):
    def total(*args):
        return int(t.sandbox(*args, "--", "awk", "/MemTotal/ {print $2}", "/proc/meminfo").text())
    small, large = total("--mem", "128m") / 1024, total("--mem", "2g") / 1024
    check(64 < small <= 128, "128 MiB are %d" % small)
    check(1800 < large <= 2048, "2 GiB are %d" % large)


@test()
def runs_with_the_least_memory(t):
    t.sandbox("--mem", "64", "--", "echo", "fits").gives(0, b"fits\n")


@test()
def gives_storage(t):
    def size(*args):
        return int(t.sandbox(*args, "--", "sh", "-c", "df -m / | tail -n1").text().split()[1])
    check(200 < size("--storage", "256m") <= 256, "256 MiB")
    check(15000 < size() <= 20480, "the default")


@test()
def says_enospc_when_its_storage_is_full(t):
    r = t.sandbox("--storage", "64m", "--", "sh", "-c",
                  "dd if=/dev/zero of=/fill bs=1M count=200; echo rest; rm /fill; "
                  "echo x >/y && cat /y")
    check(b"No space left" in r.err and b"rest\nx\n" in r.out and r.rc == 0, r.describe())


@test()
def says_when_memory_ran_out(t):
    r = t.sandbox("--mem", "96m", "--", "sh", "-c", "tail /dev/zero; echo rc=$?")
    check(b"rc=137" in r.out or r.rc in (137, 125), r.describe())


# ---- time ------------------------------------------------------------------------------------

@test()
def ends_after_its_timeout_with_124(t):
    r = t.sandbox("--timeout", "1s", "--", "sleep", "1000", timeout=25)
    same(r.rc, 124, "exit code")
    check(b"1" in r.err and len(r.err.splitlines()) <= 1, r.describe())


@test()
def ends_after_its_timeout_although_signals_are_ignored(t):
    r = t.sandbox("--timeout", "1s", "--", "sh", "-c",
                  "trap '' TERM HUP INT; while :; do sleep 1; done", timeout=25)
    same(r.rc, 124, "exit code")


@test()
def a_command_that_is_quicker_than_its_timeout_is_not_touched(t):
    t.sandbox("--timeout", "30s", "--", "sh", "-c", "exit 3").gives(3)


@test()
def knows_the_time(t):
    guest = float(t.sandbox("--", "date", "+%s").gives().text())
    check(abs(guest - time.time()) < 5, "the guest's clock is off by %s s" % (guest - time.time()))


@test()
def its_clock_goes_as_fast_as_ours(t):
    r = t.sandbox("--", "sh", "-c",
                  "a=$(date +%s); sleep 3; b=$(date +%s); echo $((b - a))").gives()
    check(r.text() in ("3", "4"), "3 s took the guest %s s" % r.text())
    check(r.seconds >= 3, "the command ended after %.1f s" % r.seconds)


@test()
def has_random_numbers(t):
    a = t.sandbox("--", "head", "-c", "32", "/dev/urandom").gives().out
    b = t.sandbox("--", "head", "-c", "32", "/dev/urandom").gives().out
    check(len(a) == len(b) == 32 and a != b, "the same random numbers twice")


# ---- the root file system --------------------------------------------------------------------

@test()
def writes_anywhere_in_the_root_file_system(t):
    script = """
        for d in / /bin /etc /usr /var /root /tmp /new/deep/folder; do
            mkdir -p $d && echo x >$d/made-here && [ "$(cat $d/made-here)" = x ] || exit 9
        done
        echo more >>/etc/hosts && rm /bin/made-here
        mv /etc/group /etc/group2 && rm -r /home && ln -s /etc /link && mkfifo /fifo &&
        chown 12:34 /etc/passwd && chmod 4755 /etc/passwd && ls -ln /etc/passwd | cut -c1-10
    """
    t.sandbox("busybox", "sh", "-ec", "mkdir -p /home; " + script).gives(0, b"-rwsr-xr-x\n")


@test()
def each_run_starts_clean(t):
    t.sandbox("--", "sh", "-c", "echo x >/marker; rm -rf /etc/passwd; sync").gives()
    t.sandbox("--", "sh", "-c", "ls /marker 2>/dev/null; ls /etc/passwd").gives(0, b"/etc/passwd\n")


@test()
def read_only_refuses_writes(t):
    r = t.sandbox("--read-only", "--", "sh", "-c", "echo x >/etc/x")
    check(r.rc != 0 and b"ead-only file system" in r.err, r.describe())


@test()
def read_only_leaves_the_temporary_folders(t):
    t.sandbox("--read-only", "--", "sh", "-ec",
              "for d in /tmp /run /var/tmp; do echo x >$d/x; cat $d/x; done").gives(0, b"x\nx\nx\n")


@test()
def has_the_usual_file_systems(t):
    script = """
        [ -r /proc/self/stat ] && [ -d /sys/class ] && [ -c /dev/null ] && [ -c /dev/urandom ] &&
        [ -e /dev/fd/0 ] && [ -e /dev/stdin ] && [ -c /dev/ptmx ] && [ -d /dev/pts ] &&
        echo x >/dev/shm/x && echo fine
    """
    t.sandbox("--", "sh", "-c", script).gives(0, b"fine\n")


@test()
def tmp_is_everyones(t):
    t.sandbox("-u", "1000", "--", "sh", "-c", "echo x >/tmp/x && cat /tmp/x").gives(0, b"x\n")


@test()
def has_no_network_without_being_asked(t):
    r = t.sandbox("--", "sh", "-c", "ls /sys/class/net").gives()
    check(set(r.text().split()) <= {"lo"}, "network cards: %s" % r.text())


@test()
def its_loopback_works(t):
    script = "echo hi | nc -l -p 1234 >/dev/null & sleep 0.3; nc 127.0.0.1 1234 </dev/null"
    t.sandbox("--", "sh", "-c", script).gives(0, b"hi\n")


# ---- what is said ----------------------------------------------------------------------------

@test()
def verbose_shows_the_kernels_console(t):
    r = t.sandbox("--verbose", "--", "echo", "out").gives(0, b"out\n")
    check(b"Linux version" in r.err, r.describe())


@test()
def quiet_says_nothing(t):
    t.sandbox("--quiet", "--", "echo", "out").gives(0, b"out\n", b"")


@test()
def timing_shows_where_time_goes(t):
    r = t.sandbox("--timing", "--", "true").gives(0, b"")
    for word in (b"probe", b"kernel", b"agent", b"exec"):
        check(word in r.err, "no '%s' in %s" % (word.decode(), r.describe()))


@test()
def timing_counts_what_the_machine_did(t):
    os.makedirs(t.folder("a"), exist_ok=True)
    found = json.loads(t.sandbox("--timing=json", "-v", t.path("a") + ":/a", "--", "sh", "-c",
                                 "head -c 300000 /dev/zero >/a/f").gives(0, b"").err)
    check(found["total_ms"] > found["exec_ms"] > 0, "%s" % found)
    if BACKEND != "builtin":
        check("counters" not in found, "counters of QEMU: %s" % found)
        return
    n = found["counters"]
    same(n["exits_all"], sum(n["exits_" + kind] for kind in (
        "mmio", "io", "halt", "interrupted", "other")), "exits")
    check(n["exits_all"] >= found["exits"] > 0, "%s" % found)
    check(n["fs_bytes"] >= 300000 and n["disk_requests"] > 0 and n["vsock_bytes"] > 0, "%s" % n)
    same(n["device_errors"], 0, "devices that failed")


@test()
def takes_a_kernel_of_the_users(t):
    copy = shutil.copy(os.path.join(BUILD, "vmlinux"), t.path("my-kernel"))
    t.sandbox("--kernel", copy, "--", "echo", "up").gives(0, b"up\n")


@test()
def an_image_without_a_command_runs_its_own(t):
    t.sandbox("-i", "busybox", stdin=b"echo in a shell\n").gives(0, b"in a shell\n")


@test()
def nothing_to_run_is_an_error(t):
    t.sandbox().fails(125, "nothing to run")


main()
