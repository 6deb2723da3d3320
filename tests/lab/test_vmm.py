#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 1500 s
"""The built-in VMM on a real KVM, from the command line: bad input, and how machines end.

What has no way through the command line is in vmm_cases.c. How machines end when somebody is killed
is in tests/boot/test_ends.py, which runs here as well.
"""

import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "boot"))

from lib import *  # noqa: E402

MIB = 1 << 20
VMLINUX = os.path.join(BUILD, "vmlinux")
ALIVE = b"\xfb\xf4\xeb\xfc"           # sti; hlt; jmp: idle, not dead
HALT = b"\xfa\xf4\xeb\xfd"            # cli; hlt; jmp
FAULT = b"\x0f\x0b"                   # ud2, and nobody handles it
RESET = b"\xb0\xfe\xe6\x64\xf4"       # out 0xfe to the keyboard controller
OFF = b"\x66\xb8\x00\x20\x66\xba\x04\x06\x66\xef\xf4"  # out 0x2000 to port 0x604


def elf(code=HALT, machine=62, bits=64, kind=2, gpa=MIB, memory=4096, size=None):
    """A kernel of one segment and the note that says where it begins, in 32-bit mode."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen", gpa & 0xffffffff)
    head = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, gpa, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at = len(head) + 112
    head += struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(note), len(note), 4)
    head += struct.pack("<IIQQQQQQ", 1, 7, at + len(note), gpa, gpa,
                        len(code) if size is None else size, memory, 4096)
    return head + note + code


def saying(text, then):
    """Code that writes a text to the serial port first."""
    code = b"\x66\xba\xf8\x03"
    for byte in text.encode():
        code += bytes((0xb0, byte, 0xee))
    return code + then


def boot(t, kernel, *args, **more):
    path = kernel if isinstance(kernel, str) else t.write("kernel", kernel)
    return t.sandbox("--kernel", path, *args, "--", "true", **more)


def without_kvm(t, script, *args, **more):
    """Run smolvm where /dev/kvm is something else, by a shell script, for it alone."""
    return t.run(*args, prefix=("unshare", "-m", "--propagation", "private", "sh", "-ec",
                                script + '\nexec "$@"', "sh"), **more)


def memory_kib(pid, what):
    for line in open("/proc/%d/status" % pid, encoding="ascii"):
        if line.startswith(what + ":"):
            return int(line.split()[1])
    return 0


# ---- kernels ---------------------------------------------------------------------------------

@test()
def a_kernel_that_is_none(t):
    for data in (b"x", b"hello\n" * 1000, b"\x1f\x8b" + bytes(2000), bytes(MIB)):
        boot(t, data).fails(125, "no kernel", "vmlinux", "bzImage")
    boot(t, b"").fails(125, "kernel", "empty")
    for path in ("/dev/zero", t.folder("d")):
        boot(t, path).fails(125, "kernel", path, "not a regular file")
    boot(t, t.path("none")).fails(125, "kernel", t.path("none"))
    os.mkfifo(t.path("fifo"))
    boot(t, t.path("fifo")).fails(125, "kernel", "not a regular file")


@test()
def a_kernel_that_may_not_be_read(t):
    need_root()
    secret = t.write("secret", elf(), 0o600)
    t.become_nobody()
    boot(t, secret).fails(125, "kernel", secret, "permission")


@test()
def a_truncated_kernel(t):
    with open(VMLINUX, "rb") as f:
        whole = f.read()
    for size in (4, 63, 64, 100, 4096, MIB, len(whole) // 2):
        boot(t, whole[:size]).fails(125, "kernel", "truncated")
    boot(t, elf()[:-1]).fails(125, "kernel", "truncated")


@test()
def a_kernel_for_another_machine(t):
    boot(t, elf(machine=183)).fails(125, "another kind of machine")
    boot(t, elf(machine=3, bits=32)).fails(125, "another kind of machine")
    boot(t, elf(bits=32)).fails(125, "32-bit")
    boot(t, elf(kind=1)).fails(125, "object file")


@test()
def a_kernel_that_does_not_fit(t):
    for kernel in (elf(memory=256 * MIB), elf(memory=1 << 60), elf(gpa=1 << 40)):
        boot(t, kernel, "--mem", "64m").fails(125, "kernel", "fit", "memory")
    for kernel in (elf(memory=(1 << 64) - 1), elf(memory=1)):
        boot(t, kernel, "--mem", "64m").fails(125, "kernel", "damaged")
    boot(t, elf(gpa=0)).fails(125, "kernel", "tables")
    boot(t, elf(size=0)).fails(125, "kernel", "entry")


@test()
def an_initramfs_that_does_not_fit(t):
    boot(t, elf(memory=63 * MIB - 4096), "--mem", "64m").fails(125, "initramfs", "fit", "memory")


@test()
def little_memory(t):
    t.sandbox("--mem", "64m", "--", "echo", "x").gives(0, b"x\n", b"")
    for size in ("0", "1m", "63m", "-1", "9000g", "99999999999999999999g"):
        t.sandbox("--mem", size, "--", "true").fails(125, "--mem")


@test()
def memory_that_cannot_be_had(t):
    r = t.run("sandbox", "run", "--mem", "1g", "--", "true",
              prefix=("sh", "-c", 'ulimit -v 500000; exec "$@"', "sh"))
    r.fails(125, "1024 MiB", "memory", "ulimit -v")
    # The lab's processor has 40 bits of addresses.
    t.sandbox("--mem", "8192g", "--", "true").fails(125, "memory", "processor")


@test()
def descriptors_that_cannot_be_had(t):
    for n in (16, 64):
        r = t.run("sandbox", "run", "--", "true",
                  prefix=("sh", "-c", 'ulimit -n %d; exec "$@"' % n, "sh"))
        r.fails(125, "too many open files", "ulimit -n")


@test()
def more_folders_than_devices(t):
    volumes = []
    for i in range(40):
        volumes += ["-v", t.folder("v/%d" % i) + ":/v/%d" % i]
        t.write("v/%d/f" % i, "%d\n" % i)
    r = t.sandbox(*volumes, "--", "sh", "-c", "cat /v/*/f | sort -n")
    r.gives(0, b"".join(b"%d\n" % i for i in range(40)), b"")


# ---- processors ------------------------------------------------------------------------------

@test()
def several_processors(t):
    for n in ("4", "8"):
        t.sandbox("--cpus", n, "--", "nproc").gives(0, n.encode() + b"\n", b"")
    for n in ("0", "65", "-1", "x"):
        t.sandbox("--cpus", n, "--", "true").fails(125, "--cpus")


@test(limit=100)
def a_guest_with_machines_of_its_own(t):
    bare = os.path.join(BUILD, "tests/lab/kvm_guest")
    if not os.path.exists(bare):
        raise Skip("tests/lab/kvm_guest is not built: ninja lab-programs")
    r = t.sandbox("--nested", "-v", "/usr:/usr:ro", "-v", bare + ":/bare:ro", "--", "/bin/sh", "-c",
                  "ln -s usr/lib64 /lib64; ln -s usr/lib /lib; exec /bare")
    check(r.rc == 0 and b"ok 6 - triple_fault" in r.out and b"not ok" not in r.out, r.describe())
    t.sandbox("--", "test", "-w", "/dev/kvm").gives(1, b"", b"")


# ---- disks -----------------------------------------------------------------------------------

def disk_file(t, kind):
    folder = os.path.join(t.home, kind)
    files = os.listdir(folder)
    same(len(files), 1, kind)
    return os.path.join(folder, files[0])


@test()
def a_disk_that_is_missing_or_short(t):
    """Of an image or of what machines write to: it is made again."""
    t.sandbox("--", "true").gives()
    for kind in ("images", "scratch"):
        for size in (100, 0, 4096):
            os.truncate(disk_file(t, kind), size)
            t.sandbox("--", "echo", "x").gives(0, b"x\n", b"")
        os.unlink(disk_file(t, kind))
        t.sandbox("--", "echo", "x").gives(0, b"x\n", b"")


@test()
def a_disk_that_shrinks_while_in_use(t):
    running = t.start_sandbox("-i", "--", "/bin/sh", "-c", "echo up; read x; cd /; "
                              "echo 3 >/proc/sys/vm/drop_caches; "
                              "cat bin/busybox >/dev/null || echo failed; echo alive",
                              stdin=subprocess.PIPE)
    running.says(b"up\n")
    os.truncate(disk_file(t, "images"), 4096)
    running.process.stdin.write(b"\n")
    running.process.stdin.close()
    # Every program is busybox, which cannot be read any more; what runs already goes on.
    running.wait().gives(0, b"up\nfailed\nalive\n")


# ---- /dev/kvm --------------------------------------------------------------------------------

@test()
def kvm_is_taken_away_between_runs(t):
    """The verdict that is kept from the run before does not hide it."""
    t.sandbox("--", "true").gives()
    check(os.path.exists(os.path.join(t.home, "kvm-probe")), "no verdict was kept")
    for script, words in (("mount --bind /dev/null /dev/kvm", ("/dev/kvm", "not work")),
                          ("mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3",
                           ("no /dev/kvm", "firmware"))):
        r = without_kvm(t, script, "sandbox", "run", "--", "true")
        r.fails(125, "builtin", "KVM", *words)
        r = without_kvm(t, script, "doctor", env={"SMOLVM_BACKEND": None})
        text = " ".join(r.text().split())
        check("Machines run on qemu with tcg" in text and "KVM is not usable" in text and
              all(w in text for w in words), r.describe())
    t.sandbox("--", "true").gives()


@test()
def kvm_is_taken_away_while_the_machine_starts(t):
    """The probe has found it; when smolvm-vmm opens it, it is gone, or something else."""
    copies = t.folder("copies")
    for name in ("smolvm", "vmlinux"):
        shutil.copy(os.path.join(BUILD, name), copies)
    t.binary = os.path.join(copies, "smolvm")
    for script, words in (("mount --bind /dev/null /dev/kvm", ("is not KVM",)),
                          ("mount -t tmpfs none /dev", ("cannot open /dev/kvm",))):
        t.write("copies/smolvm-vmm", "#!/bin/sh\n%s\nexec %s \"$@\"\n" % (
            script, os.path.join(BUILD, "smolvm-vmm")), 0o755)
        without_kvm(t, ":", "sandbox", "run", "--", "true").fails(125, "/dev/kvm", *words)


@test(limit=150)
def kvm_without_permission(t):
    t.become_nobody()
    mode = stat.S_IMODE(os.stat("/dev/kvm").st_mode)
    os.chmod("/dev/kvm", 0o600)
    t.undo.append(lambda: os.chmod("/dev/kvm", mode))
    t.sandbox("--backend", "builtin", "--", "true").fails(125, "builtin", "permission", "usermod")
    r = t.run("doctor", env={"SMOLVM_BACKEND": None})
    check("Machines run on qemu with tcg" in " ".join(r.text().split()), r.describe())
    # Emulated by an emulated processor: it takes its time.
    t.sandbox("--", "echo", "x", env={"SMOLVM_BACKEND": None}, timeout=140).gives(0, b"x\n")


@test()
def an_ordinary_user(t):
    t.become_nobody()
    env = {"SMOLVM_BACKEND": None}
    r = t.run("doctor", env=env)
    check("Machines run on builtin with kvm" in " ".join(r.text().split()), r.describe())
    r = t.sandbox("--timing", "--", "id", "-u", env=env).gives(0, b"0\n")
    check(b" exits " in r.err, r.describe())


# ---- what can be seen ------------------------------------------------------------------------

@test()
def timing(t):
    r = t.sandbox("--timing=json", "--", "true").gives(0, b"")
    found = json.loads(r.err)
    text = json.dumps(found)
    for key in ("exits", "load", "enter", "driver"):
        check(key in text, "no %s in %s" % (key, text))


@test()
def without_a_jail(t):
    r = t.sandbox("--insecure-no-jail", "--", "echo", "x").gives(0, b"x\n")
    check(b"WARNING" in r.err, r.describe())


@test(limit=100)
def freed_memory_goes_back(t):
    running = t.start_sandbox("-i", "--mem", "512m", "--", "sh", "-c",
                              "mount -o remount,size=400m /dev/shm; echo up; read x; "
                              "dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null; "
                              "echo full; read x; rm /dev/shm/x; echo gone; read x",
                              stdin=subprocess.PIPE)

    def step(says):
        running.says(says)
        return memory_kib(vmm, "VmRSS") >> 10

    def go():
        running.process.stdin.write(b"\n")
        running.process.stdin.flush()
    running.says(b"up\n")
    vmm = max(t.hypervisors(), key=lambda pid: memory_kib(pid, "VmRSS"))
    before = step(b"up\n")
    go()
    full = step(b"full\n")
    check(full >= before + 190, "%d MiB before, %d with 200 more" % (before, full))
    go()
    running.says(b"gone\n")
    wait_for(lambda: memory_kib(vmm, "VmRSS") >> 10 < full - 150,
             "memory to go down from %d MiB (%d before)" % (full, before), 15)
    go()
    running.wait().gives(0)


# ---- ends ------------------------------------------------------------------------------------

@test()
def ends_of_bare_guests(t):
    for code, words in ((HALT, ("guest hangs", "halted")), (FAULT, ("triple fault",)),
                        (RESET, ("reset itself",)), (OFF, ("switched itself off",)),
                        (saying("Kernel panic - not syncing: made up\r\n", FAULT),
                         ("panicked", "made up"))):
        boot(t, elf(code)).fails(125, *words)
    boot(t, elf(HALT), "--cpus", "4").fails(125, "guest hangs")


@test()
def a_bare_guest_that_idles(t):
    """It is not taken for dead, and can be ended."""
    running = t.start_sandbox("--kernel", t.write("kernel", elf(ALIVE)), "--", "true")
    t.hypervisors()
    time.sleep(5)
    check(running.process.poll() is None, "it ended")
    running.send(signal.SIGINT)
    same(running.wait(20).rc, 130, "exit code")


@test()
def a_guest_that_panics(t):
    r = t.sandbox("--mem", "128m", "--", "sh", "-c", "echo 1 >/proc/sys/vm/panic_on_oom; "
                  "mount -t tmpfs -o size=1g none /mnt; dd if=/dev/zero of=/mnt/x bs=1M")
    r.fails(125, "panicked", "memory")


@test()
def a_guest_that_ends_itself(t):
    for how, words in (("reboot -f", ("restarted itself",)), ("halt -f", ("switched itself off",)),
                       ("poweroff -f", ("switched itself off",))):
        t.sandbox("--", "sh", "-c", how + "; sleep 100").fails(125, *words)


@test(limit=150)
def thirty_in_a_row(t):
    """No file is left, and no descriptor gets through to the command."""
    def state():
        return sorted(os.path.relpath(os.path.join(base, f), t.home)
                      for base, _, files in os.walk(t.home) for f in files)
    t.sandbox("--", "true").gives()
    first = state()
    for i in range(30):
        r = t.sandbox("--", "sh", "-c", "ls /proc/self/fd | wc -l").gives(0)
        same(int(r.out), 4, "descriptors of a command")
    same(state(), first, "files in the state folder")


main()
