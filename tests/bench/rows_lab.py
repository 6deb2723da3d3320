# SPDX-License-Identifier: Apache-2.0
"""The built-in VMM against QEMU, both on KVM: same kernel, same guest, in one run.

Where KVM is usable the rows are measured here; elsewhere in the lab (tools/lab.sh), a machine of
ours whose KVM is real, where only the ratios mean something.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import peers
from common import (BUILD, CACHE, ROOT, Note, Row, Skip, Skipped, end_process, environment, median,
                    need_tool, parse_numbers, say, show_mib, show_rate, show_seconds,
                    sleeping_machine, smolvm, started, take_time, temp_folder)
from rows_share import JOBS, measure
from rows_stream import client

QEMU = "QEMU on KVM"
PROGRAMS = ("vmmwork", "guestio", "guest", "fswork", "init_exit", "streamwork", "execwork",
            "sharework",            "runstat", "floor")
LAB_LIMIT_S = 1500
GIVE_UP_S = 90


def on(backend, *args, home, **more):
    return smolvm(*args[:2], "--backend", backend, *args[2:], home=home, **more)


# ---- start -----------------------------------------------------------------------------------

def start_rows(bench):
    """Until the agent has said hello, from the start of smolvm-vmm; and all of a run."""
    hello = {"builtin": [], "qemu": []}
    wall = {"builtin": [], "qemu": []}
    exits = []
    for backend in hello:
        on(backend, "sandbox", "run", "--", "true", home=bench.home)
    for i in bench.rounds(9, 3, 90, 3):
        for backend in hello:
            say("lab: start, round %d, %s" % (i + 1, backend))
            r = on(backend, "sandbox", "run", "--timing", "--", "true", home=bench.home)
            parts = dict(re.findall(r"^(\w+)\s+([0-9.]+) ms$", r.err, re.M))
            hello[backend].append((float(parts["spawn"]) + float(parts["kernel"])) / 1e3)
            wall[backend].append(r.seconds)
            found = re.search(r"^\s*exits\s+(\d+)", r.err, re.M)
            if backend == "builtin" and found:
                exits.append(int(found.group(1)))
    yield Row("lab/hello", "start to the agent's hello", QEMU + ", microvm", hello["builtin"],
              hello["qemu"], aim=0.4)
    yield Row("lab/true", "sandbox run -- true", "the same on QEMU", wall["builtin"],
              wall["qemu"], aim=0.5)
    if exits:
        yield Note("lab/exits", "VM exits from start to hello", [
            ("median", str(int(median(exits)))), ("all", " ".join(str(n) for n in exits))])


# ---- memory ----------------------------------------------------------------------------------

def beside_ram_kib(pid, ram_mib):
    """Resident memory of a process that is not in the mapping of the guest's RAM."""
    total = size = 0
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            field = re.match(r"(Size|Rss):\s+(\d+) kB", line)
            if field and field.group(1) == "Size":
                size = int(field.group(2))
            elif field and size < (ram_mib << 10) // 2:
                total += int(field.group(2))
    return total


def vmm_pids(client_pid):
    for pid in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            with open("/proc/%s/comm" % pid) as f:
                if f.read().startswith(("smolvm-vmm", "qemu-system")):
                    yield int(pid)


def peak_beside_ram(bench, backend):
    """The most that our process had beside the guest's memory, looked at every 10 ms from its
    start to a ready guest."""
    peak = 0
    process = started(subprocess.Popen(
        [os.path.join(BUILD, "smolvm"), "sandbox", "run", "--backend", backend, "--", "sleep",
         "1"], env=environment(bench.home), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL))
    try:
        while process.poll() is None:
            now = 0
            for pid in vmm_pids(process.pid):
                with contextlib.suppress(OSError):
                    now += beside_ram_kib(pid, 1024)
            peak = max(peak, now)
            time.sleep(0.01)
    finally:
        end_process(process)
    return peak / 1024


def memory_rows(bench):
    ours, other = [], []
    for i in bench.rounds(3, 1, 30, 1):
        say("lab: memory, round %d" % (i + 1))
        ours.append(peak_beside_ram(bench, "builtin"))
        other.append(peak_beside_ram(bench, "qemu"))
    yield Row("lab/memory", "our processes beside RAM, peak", QEMU, ours, other, show=show_mib)
    yield Row("lab/memory-aim", "the same", "3 MiB", ours, [3.0] * len(ours), aim=1.0,
              show=show_mib)


# ---- devices ---------------------------------------------------------------------------------

def guest_initramfs():
    return peers.initramfs("guestio", {"init": "guestio", "fswork": "fswork"})


def append(machine, job):
    return "console=ttyS0 reboot=t panic=-1 quiet kvm.enable_virt_at_load=0 bench=" + job


def ours_command(machine, job, *options):
    return [peers.program("vmmwork"), "-m", str(machine.memory_mib), *options,
            machine.options["-kernel"], guest_initramfs(), append(machine, job)]


def qemu_command(machine, job, *devices):
    return machine.command(initrd=guest_initramfs(), serial="stdio",
                           change={"-append": append(machine, job)}, devices=devices)


def blk_rows(bench):
    machine = bench.machine()
    mib, n = (128, 2000) if not bench.quick else (32, 500)
    disk = os.path.join(temp_folder(), "disk.img")
    with open(disk, "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
    job = "blk:%d:%d" % (mib, n)
    commands = (ours_command(machine, job, "-d", disk),
                qemu_command(machine, job, "-drive", "if=none,id=d,format=raw,file=" + disk,
                             "-device", "virtio-blk-device,drive=d"))
    took = ([], [])
    for i in bench.rounds(5, 2, 60, 2):
        for command, into in zip(commands, took):
            say("lab: blk, round %d" % (i + 1))
            text = peers.run_guest(command)
            into.append({name: parse_numbers(text, name)
                         for name in ("blkwrite", "blkread", "blkrandom")})
    for name, text in (("blkwrite", "write %d MiB, direct, fsync" % mib),
                       ("blkread", "read %d MiB, direct" % mib)):
        yield Row("lab/" + name, text, QEMU, [t[name][0] for t in took[0]],
                  [t[name][0] for t in took[1]], aim=1.0, show=show_rate)
    yield Row("lab/blkrandom", "read 4 KiB, direct, p50", QEMU,
              [t["blkrandom"][0] / 1e9 for t in took[0]],
              [t["blkrandom"][0] / 1e9 for t in took[1]], aim=1.0)


VSOCK_JOBS = {"rtt": "rtt:1:500", "rtt16": "rtt:16:100", "echo": "echo:1:16",
              "discard": "discard:1:32"}


@contextlib.contextmanager
def serving(command):
    """A guest that has said that it serves."""
    process = started(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True))
    timer = threading.Timer(GIVE_UP_S, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if "serving" in line:
                break
        else:
            raise Skip("a guest of the vsock rows does not serve")
        yield
    finally:
        timer.cancel()
        end_process(process)


def vsock_rows(bench):
    machine = bench.machine()
    tool = peers.program("streamwork")
    address = os.path.join(temp_folder(), "v")
    ours, theirs = ({job: [] for job in VSOCK_JOBS} for _ in range(2))
    if not os.path.exists("/dev/vhost-vsock"):
        raise Skip("the host has no /dev/vhost-vsock")
    with serving(ours_command(machine, "vsock", "-v", address)), \
            serving(qemu_command(machine, "vsock", "-device",
                                 "vhost-vsock-device,guest-cid=42")):
        for i in bench.rounds(5, 2, 60, 2):
            say("lab: vsock, round %d" % (i + 1))
            for where, into in ((("smolvm", address), ours), (("vsock", "42"), theirs)):
                text = client(tool, *where, *VSOCK_JOBS.values())
                for job, line in VSOCK_JOBS.items():
                    into[job].append(parse_numbers(text, line))
    other = "QEMU's vhost-vsock"
    bench.vsock_rtt = [v[0] / 1e9 for v in ours["rtt"]]
    for job, text in (("rtt", "round trip of a byte, p50"), ("rtt16", "16 streams, p50")):
        yield Row("lab/vsock-" + job, text, other, [v[0] / 1e9 for v in ours[job]],
                  [v[0] / 1e9 for v in theirs[job]], aim=1.0)
    for job, text in (("echo", "there and back"), ("discard", "to the guest")):
        yield Row("lab/vsock-" + job, text, other, [v[0] for v in ours[job]],
                  [v[0] for v in theirs[job]], aim=1.0, show=show_rate)


# ---- network ---------------------------------------------------------------------------------

def answer(kind, connection, nbytes):
    with connection:
        if kind == "echo":
            while data := connection.recv(65536):
                connection.sendall(data)
        elif kind == "sink":
            while connection.recv(1 << 20):
                pass
            connection.sendall(b"x")
        else:
            data = bytes(1 << 20)
            for _ in range(nbytes >> 20):
                connection.sendall(data)


def serve(listener, kind, nbytes):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(kind, connection, nbytes), daemon=True).start()


@contextlib.contextmanager
def servers(nbytes):
    listeners = []
    try:
        for port, kind in ((5003, "echo"), (5004, "sink"), (5005, "source")):
            listener = socket.create_server(("127.0.0.1", port))
            listeners.append(listener)
            threading.Thread(target=serve, args=(listener, kind, nbytes), daemon=True).start()
        yield
    finally:
        for listener in listeners:
            listener.close()


def outside():
    """passt wants a host that is connected to something; the lab is to nothing."""
    if os.environ.get("SMOLVM_LAB") and not os.path.exists("/sys/class/net/outside"):
        for words in ("link add outside type dummy", "link set outside up",
                      "addr add 10.8.8.2/24 dev outside", "route add default via 10.8.8.1"):
            subprocess.run([need_tool("ip"), *words.split()], check=True)


@contextlib.contextmanager
def passt(address):
    outside()
    with contextlib.suppress(OSError):
        os.unlink(address)
    command = [need_tool("passt"), "-f", "-1", "-s", address, "-a", "10.9.9.15", "-n", "24", "-g",
               "10.9.9.2", "-t", "none", "-u", "none"]
    if os.geteuid() == 0:
        command += ["--runas", "0"]
    process = started(subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    try:
        for _ in range(500):
            if os.path.exists(address) or process.poll() is not None:
                break
            time.sleep(0.01)
        if not os.path.exists(address):
            raise Skip("passt does not start: %s" % process.stderr.read().decode()[-160:])
        yield
    finally:
        end_process(process)


def net_rows(bench):
    machine = bench.machine()
    mib, n = (64, 500) if not bench.quick else (16, 200)
    address = os.path.join(temp_folder(), "p")
    job = "net:%d:%d" % (mib, n)
    commands = (ours_command(machine, job, "-n", address),
                qemu_command(machine, job, "-netdev",
                             "stream,id=n,server=off,addr.type=unix,addr.path=" + address,
                             "-device", "virtio-net-device,netdev=n"))
    took = ([], [])
    with servers(mib << 20):
        for i in bench.rounds(3, 1, 60, 1):
            for command, into in zip(commands, took):
                say("lab: net, round %d" % (i + 1))
                with passt(address):
                    text = peers.run_guest(command)
                into.append({name: parse_numbers(text, name)
                             for name in ("netrtt", "netsend", "netreceive")})
    yield Row("lab/net-rtt", "TCP round trip through passt, p50", QEMU,
              [t["netrtt"][0] / 1e9 for t in took[0]], [t["netrtt"][0] / 1e9 for t in took[1]],
              aim=1.0)
    for name, text in (("netsend", "TCP from the guest"), ("netreceive", "TCP to the guest")):
        yield Row("lab/" + name, text, QEMU, [t[name][0] for t in took[0]],
                  [t[name][0] for t in took[1]], aim=1.0, show=show_rate)


# ---- shared folders and commands -------------------------------------------------------------

def share_rows(bench):
    mib, files = (64, 500) if not bench.quick else (16, 200)
    ways = {"builtin": [], "builtin-stream": [], "virtiofsd": []}
    failed = {}
    for i in bench.rounds(3, 1, 120, 1):
        for way in ways:
            say("lab: share, round %d, %s" % (i + 1, way))
            if way in failed:
                continue
            try:
                ways[way].append(measure(way, bench, mib, files))
            except Skip as e:
                failed[way] = e
    for other, name in (("virtiofsd", "virtiofsd on QEMU"),
                        ("builtin-stream", "the same server, a stream")):
        if other in failed or "builtin" in failed:
            yield Skipped("lab/fs-" + other, failed.get(other) or failed["builtin"])
            continue
        for job, text in JOBS.items():
            yield Row("lab/fs-%s-%s" % (job, other), text % (files if "files" in text else mib),
                      name, [t[job] for t in ways["builtin"]], [t[job] for t in ways[other]],
                      aim=1.0)


def exec_rows(bench):
    n = 100 if not bench.quick else 40
    p50, echo = [], []
    env = {**environment(bench.home), "SMOLVM_LIBEXEC": bench.build, "SMOLVM_BACKEND": "builtin"}
    for i in bench.rounds(3, 1, 30):
        say("lab: exec, round %d" % (i + 1))
        p50.append(parse_numbers(client(peers.program("execwork"), str(n), "true", env=env),
                                 "exec")[0] / 1e9)
        with sleeping_machine(bench.home, "--backend", "builtin") as (_, address):
            echo.append(parse_numbers(client(peers.program("streamwork"), "smolvm", address,
                                             "rtt:1:300"), "rtt:1:300")[0] / 1e9)
    bench.exec_p50 = p50
    raw = getattr(bench, "vsock_rtt", None)
    if raw:
        yield Row("lab/stream", "a byte to the agent and back", "a raw vsock echo", echo,
                  (raw * len(echo))[:len(echo)], aim=1.5)
    yield Row("lab/exec", "smolvm_exec of 'true', warm, p50", "a byte's round trip", p50, echo)


# ---- microsandbox ------------------------------------------------------------------------------

MICROSANDBOX = "@superradcompany/microsandbox-linux-x64-gnu"


def microsandbox():
    """The folder of its programs, from the npm registry; fetched once, by the host."""
    folder = os.environ.get("SMOLVM_BENCH_MICROSANDBOX") or os.path.join(CACHE, "microsandbox")
    if os.access(os.path.join(folder, "bin/msb"), os.X_OK):
        return folder
    work = temp_folder("npm")
    r = subprocess.run([need_tool("npm"), "pack", "--silent", MICROSANDBOX], cwd=work, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    archives = [name for name in os.listdir(work) if name.endswith(".tgz")]
    if r.returncode != 0 or not archives:
        raise Skip("microsandbox cannot be fetched: %s" % r.stdout.strip()[-120:])
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["tar", "-xzf", os.path.join(work, archives[0]), "-C", folder,
                    "--strip-components=1", "package/bin", "package/lib"], check=True)
    return folder


def small_rootfs():
    folder = temp_folder("rootfs")
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        os.mkdir(os.path.join(folder, name))
    shutil.copy(need_tool("busybox"), os.path.join(folder, "bin/busybox"))
    for name in ("sh", "true", "sleep"):
        os.symlink("busybox", os.path.join(folder, "bin", name))
    for name, line in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n")):
        with open(os.path.join(folder, "etc", name), "w") as f:
            f.write(line)
    return folder


def microsandbox_rows(bench):
    """Cold start of a command, and a command in a sandbox that is up."""
    folder, rootfs = microsandbox(), small_rootfs()
    home = temp_folder("msb")
    env = {**os.environ, "HOME": home, "MSB_HOME": home, "MSB_LIBKRUNFW_PATH":
           os.path.join(folder, "lib", os.listdir(os.path.join(folder, "lib"))[0])}
    msb = os.path.join(folder, "bin/msb")
    cold, warm = ([], []), []
    take_time([msb, "run", rootfs, "--", "/bin/true"], env=env)
    on("builtin", "sandbox", "run", rootfs, "--", "/bin/true", home=bench.home)
    for i in bench.rounds(5, 2, 60, 2):
        say("lab: microsandbox, round %d" % (i + 1))
        cold[0].append(on("builtin", "sandbox", "run", rootfs, "--", "/bin/true",
                          home=bench.home).seconds)
        cold[1].append(take_time([msb, "run", rootfs, "--", "/bin/true"], env=env).seconds)
    yield Row("lab/msb-run", "sandbox run ROOTFS -- true", "msb run ROOTFS -- true", *cold,
              aim=1.0)
    take_time([msb, "run", "--detach", "--name", "bench", rootfs], env=env)
    try:
        for _ in bench.rounds(15, 5, 30, 3):
            warm.append(take_time([msb, "exec", "bench", "--", "/bin/true"], env=env).seconds)
    finally:
        take_time([msb, "stop", "bench"], env=env, wanted=None)
    own = getattr(bench, "exec_p50", None)
    if own:
        yield Row("lab/msb-exec", "smolvm_exec of 'true', warm", "msb exec, a program each time",
                  (own * len(warm))[:len(warm)], warm, aim=1.0)


# ---- the lab ---------------------------------------------------------------------------------

GROUPS = (start_rows, memory_rows, vsock_rows, blk_rows, net_rows, share_rows, exec_rows,
          microsandbox_rows)


def rows_here(bench):
    for make in GROUPS:
        try:
            yield from make(bench)
        except Skip as e:
            yield Skipped("lab/" + make.__name__.replace("_rows", ""), e)


SHOWS = {"s": show_seconds, "bytes/s": show_rate, "MiB": show_mib}


def from_json(r):
    if "skipped" in r:
        return Skipped(r["name"], r["skipped"])
    if "lines" in r:
        return Note(r["name"], r["title"], [tuple(line) for line in r["lines"]])
    return Row(r["name"], r["what"], r["against"], r["ours"], r["other"], r["aim"],
               SHOWS[r["unit"]])


def lab_rows(bench):
    if os.environ.get("SMOLVM_LAB") or not bench.emulated():
        yield from rows_here(bench)
        return
    folder = temp_folder("programs")
    for name in PROGRAMS:
        os.link(peers.program(name), os.path.join(folder, name))
    env = {**os.environ, "SMOLVM_BUILD": BUILD, "SMOLVM_BENCH_PROGRAMS": folder,
           "LAB_ENV": "SMOLVM_BENCH_PROGRAMS SMOLVM_BENCH_MICROSANDBOX", "LAB_MEM": "5g",
           "LAB_FLAGS": "-v %s:%s:ro" % (folder, folder), "LAB_TIMEOUT": "%ds" % LAB_LIMIT_S}
    with contextlib.suppress(Skip):
        microsandbox()
        env["SMOLVM_BENCH_MICROSANDBOX"] = "/root/.cache/smolvm/bench/microsandbox"
    say("lab: starting it")
    process = started(subprocess.Popen(
        [os.path.join(ROOT, "tools/lab.sh"), "tests/bench/bench.py", "lab", "--json", "-",
         *(["--quick"] if bench.quick else []), *(["-n", str(bench.n)] if bench.n else [])],
        cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True))
    try:
        out, err = process.communicate(timeout=LAB_LIMIT_S + 60)
    except subprocess.TimeoutExpired:
        raise Skip("the lab did not end") from None
    finally:
        end_process(process)
    start = out.find('{"host"')
    if start < 0:
        raise Skip("the lab gave no figures: %s" % (err.strip() or out.strip())[-200:])
    for r in json.loads(out[start:])["rows"]:
        yield from_json(r)
