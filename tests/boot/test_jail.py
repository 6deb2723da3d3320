#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Confinement, as seen from outside: what a running machine's processes have given up, that the
supervisor clears up after each kind of end, and that the layers can be switched off, loudly."""

import ctypes
import platform

from lib import *

FOREVER = ("--", "sh", "-c", "echo up; sleep 1000")
NAMESPACES = ("net", "ipc", "uts")
PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH = 12, 13, 16, 17
PTRACE_SYSCALL = 24
ORIG_RAX, SYS_SOCKET = 15, 41


def status(path):
    """The lines of a /proc/*/status file, as a dict."""
    with open(path) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def the_two(t):
    """The supervisor and the machine's own process."""
    pids = wait_for(lambda: (lambda p: p if len(p) == 2 else None)(t.processes("smolvm-vmm")),
                    "two processes of smolvm-vmm")
    parents = {pid: int(status("/proc/%d/status" % pid)["PPid"]) for pid in pids}
    inner = [pid for pid in pids if parents[pid] in pids]
    same(len(inner), 1, "processes that belong to a supervisor (%s)" % parents)
    return parents[inner[0]], inner[0]


def namespace(pid, name):
    return os.readlink("/proc/%s/ns/%s" % (pid, name))


def qemu_of(t):
    return t.processes("qemu") if BACKEND == "qemu" else []


def unshares(t):
    """May whoever runs the machine make namespaces here?"""
    flags = "-m" if t.user is None else "-Ur"
    return subprocess.run([need_tool("unshare"), flags, "true"], stderr=subprocess.DEVNULL,
                          **t.as_user()).returncode == 0


def landlock():
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def kill_and_see(t, running, pid, *words):
    os.kill(pid, signal.SIGKILL)
    running.wait(15).fails(125, *words)
    t.leaves_nothing()


# ---- what has been given up ----

def look_at_threads(pid, shares):
    """Every thread filters its system calls, none can gain privileges; who has which powers."""
    serving = 0
    for thread in os.listdir("/proc/%d/task" % pid):
        s = status("/proc/%d/task/%s/status" % (pid, thread))
        same((s["NoNewPrivs"], s["Seccomp"]), ("1", "2"), "NoNewPrivs and Seccomp of %s" % s)
        powers = int(s["CapEff"], 16)
        serving += powers != 0
        check(not powers & ~0x8800001f, "capabilities %x of %s" % (powers, s["Name"]))
    same(serving, shares if AS_ROOT else 0, "threads with capabilities")


def is_confined(t, *options, shares=0):
    running = t.start_sandbox(*options, *FOREVER)
    running.says(b"up\n")
    supervisor, machine = the_two(t)
    look_at_threads(machine, 0 if t.user else shares)
    limits = open("/proc/%d/limits" % machine).read()
    check("\nMax core file size        0                    0 " in limits, limits)
    ordinary = t.user is not None or not AS_ROOT
    if unshares(t) and not (shares and ordinary and landlock()):
        for name in NAMESPACES:
            check(namespace(machine, name) != namespace("self", name), "the %s of the host" % name)
        # What shares are reopened by is all that is left of the host's files.
        same(os.listdir("/proc/%d/root" % machine), ["proc"] if shares else [],
             "what the machine's process sees at /")
    elif not landlock():
        raise Skip("neither namespaces nor Landlock")
    for pid in qemu_of(t):
        s = status("/proc/%d/status" % pid)
        same((s["NoNewPrivs"], int(s["CapEff"], 16) & ~4), ("1", 0), "QEMU's powers")
        if unshares(t):
            check(namespace(pid, "net") != namespace("self", "net"), "QEMU has a network")
    # The supervisor has nothing of the guest's: its lock, the client's socket, what it waits for.
    names = [os.readlink("/proc/%d/fd/%s" % (supervisor, fd))
             for fd in os.listdir("/proc/%d/fd" % supervisor)]
    check(not [n for n in names if n.startswith("/") and not n.endswith(".lock") and
               n != "/dev/null"], "the supervisor's files: %s" % names)
    running.send(signal.SIGTERM)
    running.wait(15)


def become_user(t):
    """Somebody without any rights, who may use KVM where that is needed."""
    if BACKEND == "builtin" and os.stat("/dev/kvm").st_mode & 0o6 != 0o6:
        raise Skip("/dev/kvm is not for everybody here")
    t.become_nobody()


@test()
def a_machine_is_confined(t):
    is_confined(t)


@test()
def a_machine_with_shares_is_confined(t):
    t.folder("a")
    t.folder("b")
    is_confined(t, "-v", t.path("a") + ":/a", "-v", t.path("b") + ":/b:ro", shares=2)


@test()
def a_machine_of_an_ordinary_user_is_confined(t):
    become_user(t)
    is_confined(t)


@test()
def a_machine_with_shares_of_an_ordinary_user_is_confined(t):
    become_user(t)
    os.chmod(t.folder("a"), 0o777)
    is_confined(t, "-v", t.path("a") + ":/a", shares=1)


def shares_work(t):
    folder = t.folder("a")
    os.chmod(folder, 0o777)
    t.write("a/seen", "seen\n")
    t.sandbox("-v", folder + ":/s", "-v", "/usr:/u:ro", "--", "sh", "-c",
              "set -e; cd /s; cat seen; mkdir d; echo made >d/f; mv d/f g; ln g h; cat h; "
              "ln -s g l; readlink l; chmod 600 g; stat -c %a g; rm h; ls; "
              "stat -c %u /u; echo x 2>/dev/null >/u/x || echo no").gives(
                  0, b"seen\nmade\ng\n600\nd\ng\nl\nseen\n0\nno\n")
    check(os.path.exists(t.path("a", "g")), "nothing was written")


@test()
def shares_work_under_confinement(t):
    shares_work(t)


@test()
def shares_of_an_ordinary_user_work_under_confinement(t):
    if not landlock():
        raise Skip("without Landlock every owner but one shows as nobody")
    become_user(t)
    shares_work(t)


@test()
def every_call_has_been_noted(t):
    # What is not noted then ends the machine; otherwise it would fail in silence.
    t.folder("a")
    t.sandbox("-i", "-v", t.path("a") + ":/a", "--", "sh", "-c",
              "cat; head -c 3000000 /dev/zero | tee /a/z | wc -c; sync; rm /a/z; "
              "head -c 1000000 /dev/urandom >/r; sync; md5sum /r >/dev/null; nproc",
              stdin=b"in\n", env={"SMOLVM_JAIL_STRICT": "1"}).gives(0, b"in\n3000000\n1\n")


# ---- without ----

@test()
def the_jail_can_be_switched_off_and_that_is_said(t):
    running = t.start_sandbox("--insecure-no-jail", *FOREVER)
    running.says(b"up\n")
    check(running.err.count(b"\n") == 1 and b"WARNING" in running.err and
          b"--insecure-no-jail" in running.err, "the warning: %r" % bytes(running.err))
    _, machine = the_two(t)
    s = status("/proc/%d/status" % machine)
    same((s["NoNewPrivs"], s["Seccomp"], s["CapEff"]),
         ("0", "0", status("/proc/self/status")["CapEff"]), "what it has given up")
    for name in NAMESPACES:
        same(namespace(machine, name), namespace("self", name), "its %s" % name)
    check("etc" in os.listdir("/proc/%d/root" % machine), "it sees no files")
    running.send(signal.SIGTERM)
    running.wait(15)


@test()
def doctor_tells_of_each_layer(t):
    found = json.loads(t.run("doctor", "--json").out)
    layers = {c["name"]: c for c in found["checks"] if c["area"] == "confinement"}
    same(sorted(layers), ["Landlock", "capabilities", "namespaces", "no new privileges",
                          "resource limits", "system calls"], "the layers")
    wanted = {"Landlock": landlock(), "namespaces": unshares(t)}
    for name, layer in layers.items():
        same(layer["status"], "ok" if wanted.get(name, True) else "warning", "%s" % layer)


# ---- ends ----

@test()
def the_supervisor_is_killed(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    kill_and_see(t, running, the_two(t)[0], "killed")


@test()
def the_confined_process_is_killed(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    kill_and_see(t, running, the_two(t)[1], "killed")


@test()
def the_confined_process_crashes(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    os.kill(the_two(t)[1], signal.SIGSEGV)
    running.wait(15).fails(125, "crashed", "signal 11")
    t.leaves_nothing()


@test()
def the_supervisor_passes_signals_on(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    os.kill(the_two(t)[0], signal.SIGTERM)
    running.wait(15).fails(125, "ended by signal 15")
    t.leaves_nothing()


def ptrace(libc, request, pid, data=0):
    if libc.ptrace(request, pid, None, data) < 0:
        raise Skip("this process may not be traced: errno %d" % ctypes.get_errno())


def stopped(pid):
    os.waitpid(pid, 0x40000000)     # __WALL


def make_it_call(pid, number):
    """Let a process that waits in a system call make another one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    regs = (ctypes.c_ulong * 27)()
    ptrace(libc, PTRACE_ATTACH, pid)
    stopped(pid)
    ptrace(libc, PTRACE_SYSCALL, pid)
    stopped(pid)                    # about to enter one
    ptrace(libc, PTRACE_GETREGS, pid, ctypes.addressof(regs))
    regs[ORIG_RAX] = number
    ptrace(libc, PTRACE_SETREGS, pid, ctypes.addressof(regs))
    ptrace(libc, PTRACE_DETACH, pid)


@test()
def a_forbidden_system_call_ends_the_machine_and_is_told(t):
    need_root()
    if platform.machine() != "x86_64":
        raise Skip("written for x86_64")
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    make_it_call(the_two(t)[1], SYS_SOCKET)
    running.wait(15).fails(125, "main thread", "forbidden system call socket (41)", "report")
    t.leaves_nothing()


main()
