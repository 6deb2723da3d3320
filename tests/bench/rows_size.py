# SPDX-License-Identifier: Apache-2.0
"""What a machine costs the host: memory of its processes, and bytes on disk."""

import os
import re
import subprocess

import peers
from common import (ROOT, Note, Row, Skip, end_process, median, say, show_mib, sleeping_machine,
                    started, temp_folder)


def pss_kib(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return int(re.search(r"^Pss:\s+(\d+) kB", f.read(), re.M).group(1))


def guest_ram_kib(pid, memory_mib):
    """Pss of the mapping that is the guest's memory: the one of its size."""
    size = wanted = 0
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            field = re.match(r"(Size|Pss):\s+(\d+) kB", line)
            if field and field.group(1) == "Size":
                size = int(field.group(2))
            elif field and size >= memory_mib * 1024 and size < memory_mib * 1024 + 8192:
                wanted += int(field.group(2))
                size = 0
    return wanted


def qemu_of(processes):
    for pid, name in processes.items():
        if name.startswith("qemu"):
            return pid
    raise Skip("the machine does not run in QEMU")


def memory_rows(bench):
    memory = bench.machine().memory_mib
    ours, qemu_own, ram, client, vmm, bare = [], [], [], [], [], []
    for i in bench.rounds(3, 1, 10):
        say("memory: round %d" % (i + 1))
        with sleeping_machine(bench.home) as (processes, _):
            kib = {name: pss_kib(pid) for pid, name in processes.items()}
            pid = qemu_of(processes)
            guest = guest_ram_kib(pid, memory)
            client.append(kib.get("smolvm", 0) / 1024)
            vmm.append(kib.get("smolvm-vmm", 0) / 1024)
            ours.append(client[-1] + vmm[-1])
            ram.append(guest / 1024)
            qemu_own.append((pss_kib(pid) - guest) / 1024)
        bare.append(bare_own_mib(bench))
    yield Row("memory/ours", "smolvm and smolvm-vmm (Pss)", "what QEMU takes besides RAM", ours,
              qemu_own, show=show_mib)
    yield Row("memory/qemu", "our QEMU besides RAM (Pss)", "bare QEMU, port only", qemu_own, bare,
              show=show_mib)
    yield Note("memory", "an idle machine of %d MiB, Pss" % memory, [
        ("smolvm", show_mib(median(client))), ("smolvm-vmm", show_mib(median(vmm))),
        ("guest RAM touched", show_mib(median(ram))), ("QEMU besides", show_mib(median(qemu_own)))])


def bare_own_mib(bench):
    """The same of a bare QEMU whose guest waits at its port."""
    machine = bench.machine()
    with peers.bare_port(machine) as (port, pid):
        port.settimeout(30)
        # An answer: the guest is up.
        port.sendall(b"E" + bytes(7) + (1).to_bytes(8, "little") + b"x")
        port.recv(1)
        return (pss_kib(pid) - guest_ram_kib(pid, machine.memory_mib)) / 1024


def size_rows(bench):
    """By file, what 'make install' puts on a disk."""
    folder = temp_folder("install")
    process = started(subprocess.Popen(
        ["make", "-s", "-C", ROOT, "install", "DESTDIR=" + folder], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    say("size: make install")
    out = process.communicate()[0]
    end_process(process)
    if process.returncode != 0:
        raise Skip("'make install' failed: %s" % (out.strip().splitlines() or ["?"])[-1][:160])
    sizes = {}
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                sizes[os.path.relpath(path, folder)] = os.path.getsize(path)
    lines = [("/" + path, "%8.2f MB" % (size / 1e6))
             for path, size in sorted(sizes.items(), key=lambda x: -x[1])]
    lines.append(("all", "%8.2f MB" % (sum(sizes.values()) / 1e6)))
    yield Note("size", "installed", lines)
