# SPDX-License-Identifier: Apache-2.0
"""What smolvm is compared with: machines of QEMU alone, and the small programs in them."""

import contextlib
import glob
import os
import re
import shutil
import socket
import stat
import subprocess
import time

from common import BENCH, BUILD, CACHE, Skip, end_process, need_tool, started, temp_folder

VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")
GUEST_LIMIT_S = 90

# What a machine of ours is told where none could be looked at.
FALLBACK_MACHINE = [
    "qemu-system-x86_64", "-M", "microvm,acpi=off,pcie=off,usb=off,graphics=off,isa-serial=on",
    "-global", "virtio-mmio.force-legacy=false", "-smp", "1", "-m", "1024", "-accel",
    "tcg,thread=single", "-cpu", "max,-svm", "-kernel", os.path.join(BUILD, "vmlinux"), "-append",
    "console=ttyS0 reboot=t panic=-1 quiet"]
# Options of a machine of ours that say what the machine is; the others are its devices.
KEPT = ("-M", "-global", "-smp", "-m", "-accel", "-cpu", "-kernel", "-append")


# ---- programs --------------------------------------------------------------------------------

STATIC = ["-O2", "-static", "-s"]
OF_LIBSMOLVM = ["-O2", "-I", os.path.join(BENCH, "../../include"), "-L",
                os.path.join(BUILD, "src/machine"), "-lsmolvm",
                "-Wl,-rpath," + os.path.join(BUILD, "src/machine")]
PROGRAMS = {
    "init_exit": ("init_exit.c", "gcc", ["-O2", "-nostdlib", "-static", "-s", "-ffreestanding",
                                         "-fno-pie", "-no-pie", "-fno-stack-protector",
                                         "-fno-asynchronous-unwind-tables"]),
    "floor": ("floor.S", "gcc", ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
                                 "-Wl,-Ttext-segment=0x100000"]),
    "fswork": ("fswork.c", "musl-gcc", STATIC),
    "guest": ("guest.c", "musl-gcc", STATIC),
    "runstat": ("runstat.c", "musl-gcc", STATIC),
    "guestio": ("guestio.c", "musl-gcc", [*STATIC, "-idirafter", "/usr/include", "-idirafter",
                                          "/usr/include/%s-linux-gnu" % os.uname().machine]),
    "streamwork": ("streamwork.c", "gcc", ["-O2"]),
    "vmmwork": ("vmmwork.c", "gcc", [
        "-O2", "-static", "-I", os.path.join(BENCH, "../../include"), *(
            os.path.join(BUILD, "src", name, "lib%s.a" % name)
            for name in ("vmm", "virtio", "hypervisor", "fileserver", "base"))]),
    "execwork": ("execwork.c", "gcc", OF_LIBSMOLVM),
    "sharework": ("sharework.c", "gcc", OF_LIBSMOLVM),
}
_built = {}


def program(name):
    """The path of one of the bench's own programs, built at its first use."""
    made = os.path.join(os.environ.get("SMOLVM_BENCH_PROGRAMS", "/nowhere"), name)
    if os.access(made, os.X_OK):
        return made
    if name not in _built:
        source, compiler, options = PROGRAMS[name]
        path = os.path.join(temp_folder(), name)
        r = subprocess.run([need_tool(compiler), "-std=gnu11", "-D_GNU_SOURCE", "-o", path,
                            os.path.join(BENCH, source), *options], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode != 0:
            raise Skip("%s does not compile: %s" % (source, (r.stdout.splitlines() or ["?"])[-1]))
        _built[name] = path
    return _built[name]


def cpio_entry(number, name, mode, data):
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def initramfs(name, programs):
    """An uncompressed initramfs of {path: program}, and /dev/console; its path."""
    path = os.path.join(temp_folder(), name + ".cpio")
    if os.path.exists(path):
        return path
    out = cpio_entry(1, "dev", stat.S_IFDIR | 0o755, b"")
    fields = (2, stat.S_IFCHR | 0o600, 0, 0, 1, 0, 0, 0, 0, 5, 1, len("dev/console") + 1, 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + b"dev/console\0"
    out += head + b"\0" * (-len(head) % 4)
    for number, (target, source) in enumerate(programs.items(), 3):
        with open(program(source), "rb") as f:
            out += cpio_entry(number, target, stat.S_IFREG | 0o755, f.read())
    out += cpio_entry(0, "TRAILER!!!", 0, b"")
    with open(path, "wb") as f:
        f.write(out)
    return path


# ---- machines of QEMU alone ------------------------------------------------------------------

class Machine:
    """How our machines are started, to start others in the same way."""

    def __init__(self, command):
        command = [c for c in command if c]
        self.program = command[0]
        self.options = {k: command[i + 1] for i, k in enumerate(command[:-1]) if k in KEPT}
        self.memory_mib = int(re.match(r"\d+", self.options["-m"]).group())
        self.kvm = "kvm" in self.options.get("-accel", "")

    def command(self, initrd=None, serial="null", append="", change=None, devices=()):
        """The same machine without our devices; change: options to replace, None drops one."""
        options = {**self.options, **(change or {})}
        options["-append"] = (options["-append"] + " " + append).strip()
        line = [self.program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-monitor", "none", "-serial", serial]
        for key, value in options.items():
            line += [key, value] if value is not None else []
        return line + (["-initrd", initrd] if initrd else []) + list(devices)


def floor_command(machine):
    """QEMU and its firmware alone."""
    return machine.command(change={"-kernel": program("floor")})


def bare_command(machine):
    """Our kernel and an init that ends at once."""
    return machine.command(initrd=initramfs("exit", {"init": "init_exit"}))


def cloud_kernel():
    """Debian's cloud kernel, out of its package; downloaded once."""
    folder = os.path.join(CACHE, "cloud-kernel")
    found = glob.glob(os.path.join(folder, "vmlinuz-*"))
    if found:
        return found[0]
    need_tool("dpkg-deb")
    show = subprocess.run([need_tool("apt-cache"), "show", "--no-all-versions",
                           "linux-image-cloud-amd64"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout
    name = re.search(r"^Depends:.*?\b(linux-image-[0-9][^ ,]*)", show, re.M)
    if not name:
        raise Skip("apt knows no package linux-image-cloud-amd64")
    work = temp_folder("cloud")
    r = subprocess.run(["apt-get", "-qq", "-oAPT::Sandbox::User=root", "download", name.group(1)],
                       cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    packages = glob.glob(os.path.join(work, "*.deb"))
    if r.returncode != 0 or not packages:
        raise Skip("%s cannot be downloaded: %s" % (name.group(1), r.stdout.strip()[-120:]))
    subprocess.run(["dpkg-deb", "-x", packages[0], work], check=True)
    kernel = glob.glob(os.path.join(work, "boot", "vmlinuz-*"))
    if not kernel:
        raise Skip("there is no kernel in %s" % os.path.basename(packages[0]))
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, os.path.basename(kernel[0]))
    shutil.copy(kernel[0], path + ".part")
    os.rename(path + ".part", path)
    shutil.rmtree(work, ignore_errors=True)
    return path


def cloud_command(machine):
    """The distribution's kernel with the same init, in the same kind of machine, told what it
    needs in order to boot reliably: the frequency of the TSC."""
    khz = re.search(r"tsc_early_khz=\d+", machine.options["-append"])
    append = "console=ttyS0 reboot=t panic=-1 quiet"
    return machine.command(initrd=initramfs("exit", {"init": "init_exit"}), change={
        "-kernel": cloud_kernel(), "-M": "microvm,acpi=off,isa-serial=on",
        "-append": append + (" " + khz.group() if khz else "")})


def guest_initramfs():
    return initramfs("guest", {"init": "guest", "fswork": "fswork"})


def run_guest(command):
    """What a guest wrote to its console until its end."""
    process = started(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, errors="replace"))
    try:
        return process.communicate(timeout=GUEST_LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        raise Skip("a guest of QEMU alone did not end within %d s" % GUEST_LIMIT_S) from None
    finally:
        end_process(process)


def share_9p(machine, folder, work):
    need = "local,id=share,security_model=none,path=" + folder.replace(",", ",,")
    return run_guest(machine.command(
        initrd=guest_initramfs(), serial="stdio", append="bench=9p:" + work, devices=[
            "-fsdev", need, "-device", "virtio-9p-device,fsdev=share,mount_tag=share"]))


def find_virtiofsd():
    for path in VIRTIOFSD:
        if os.access(path, os.X_OK):
            return path
    raise Skip("virtiofsd is not installed")


def virtiofsd_command(path, folder, address):
    line = [path, "--socket-path=" + address, "-o", "source=" + folder, "-o", "sandbox=chroot"]
    if "qemu" not in path:
        line = [path, "--socket-path=" + address, "--shared-dir", folder, "--sandbox=chroot"]
    if os.geteuid() == 0:
        return line
    # The one in C wants a folder below /run; a user's own namespace has one.
    return ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs t /run && mkdir -p /run/virtiofsd; "
            'exec "$@"', "sh", *line]


def share_virtiofs(machine, folder, work):
    address = os.path.join(temp_folder(), "virtiofsd.sock")
    daemon = started(subprocess.Popen(virtiofsd_command(find_virtiofsd(), folder, address),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL))
    try:
        for _ in range(500):
            if os.path.exists(address) or daemon.poll() is not None:
                break
            time.sleep(0.01)
        if not os.path.exists(address):
            raise Skip("virtiofsd does not start here")
        return run_guest(machine.command(
            initrd=guest_initramfs(), serial="stdio", append="bench=virtiofs:" + work,
            change={"-M": machine.options["-M"] + ",memory-backend=ram"}, devices=[
                "-object", "memory-backend-memfd,id=ram,share=on,size=%dM" % machine.memory_mib,
                "-chardev", "socket,id=fs,path=" + address,
                "-device", "vhost-user-fs-device,chardev=fs,tag=share"]))
    finally:
        end_process(daemon)
        with contextlib.suppress(OSError):
            os.unlink(address)


@contextlib.contextmanager
def bare_port(machine):
    """A bare virtio-serial port whose guest answers; yields our end's socket, and QEMU's pid."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    process = started(subprocess.Popen(machine.command(
        initrd=guest_initramfs(), append="bench=port", devices=[
            "-chardev", "socket,id=port,fd=%d" % theirs.fileno(),
            "-device", "virtio-serial-device,max_ports=2",
            "-device", "virtserialport,chardev=port,nr=1"]),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()]))
    theirs.close()
    try:
        yield ours, process.pid
    finally:
        ours.close()
        end_process(process)
