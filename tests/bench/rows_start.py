# SPDX-License-Identifier: Apache-2.0
"""How long a command takes from nothing, against what an emulator needs at the very least."""

import os
import re
import sys

import peers
from common import (BENCH, Note, Row, Skip, Skipped, median, say, show_seconds, smolvm,
                    take_time)

PARTS = ("image", "probe", "spawn", "kernel", "agent", "exec", "teardown", "total")
TRUE = ("sandbox", "run", "--", "true")
PYTHON = ("python3", "-c", "print(1)")


def run_true(home):
    return smolvm(*TRUE, home=home)


def start_rows(bench):
    """Ours, bare QEMU, QEMU's own share and the distribution's kernel, one after the other."""
    commands = {"floor": peers.floor_command(bench.machine()),
                "bare": peers.bare_command(bench.machine())}
    try:
        commands["cloud"] = peers.cloud_command(bench.machine())
    except Skip as e:
        yield Skipped("start/cloud", e)
    took = {"ours": [], **{name: [] for name in commands}}
    run_true(bench.home)
    for i in bench.rounds(21, 7, 60, 5):
        say("start: round %d" % (i + 1))
        took["ours"].append(run_true(bench.home))
        for name, command in commands.items():
            # A second of the distribution's kernel each time is not needed.
            if name == "cloud" and i % 3:
                continue
            took[name].append(take_time(command))
    wall, cpu = ({name: [getattr(r, field) for r in runs] for name, runs in took.items()}
                 for field in ("seconds", "cpu_s"))
    # The last aim is 1.15; what is asked of the first version is 1.25.
    yield Row("start/true", "sandbox run -- true", "bare QEMU, same kernel", wall["ours"],
              wall["bare"], aim=1.25)
    # On a host that does other things as well this one is the steadier.
    yield Row("start/cpu", "the same, CPU time", "the same", cpu["ours"], cpu["bare"])
    yield Row("start/floor", "sandbox run -- true", "QEMU and firmware alone", wall["ours"],
              wall["floor"])
    if "cloud" in took:
        yield Row("start/cloud", "the same", "Debian's cloud kernel", wall["ours"][::3],
                  wall["cloud"], aim=1.0)


def timing_rows(bench):
    """Where the rest goes: what --timing says, and how much less bare QEMU's kernel takes."""
    parts = {}
    wall = []
    for i in bench.rounds(11, 5, 15, 3):
        say("timing: round %d" % (i + 1))
        r = smolvm("sandbox", "run", "--timing", "--", "true", home=bench.home)
        wall.append(r.seconds)
        for name, ms in re.findall(r"^(\w+)\s+([0-9.]+) ms$", r.err, re.M):
            parts.setdefault(name, []).append(float(ms) / 1e3)
    if "total" not in parts:
        raise Skip("'sandbox run --timing' printed no table")
    names = sorted(parts, key=lambda n: PARTS.index(n) if n in PARTS else -1)
    lines = [(n, "%9s" % show_seconds(median(parts[n]))) for n in names]
    lines.append(("outside of it", "%9s" % show_seconds(median(wall) - median(parts["total"]))))
    yield Note("timing", "where the time of 'sandbox run -- true' goes (medians)", lines)


def boot_tests():
    """The modules of the boot tests that make images."""
    folder = os.path.join(os.path.dirname(BENCH), "boot")
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        import images
        import lib
    except ImportError as e:
        raise Skip("tests/boot cannot make an image: %s" % e) from None
    return images, lib


def python_tar():
    images, lib = boot_tests()
    try:
        return images.python_rootfs()
    except lib.Skip as e:
        raise Skip(str(e)) from None


def python_rows(bench):
    smolvm("image", "import", "--name", "bench-python", python_tar(), home=bench.home)
    ours, trues = [], []
    run = ("sandbox", "run", "bench-python", "--", *PYTHON)
    r = smolvm(*run, home=bench.home)
    if r.out != "1\n":
        raise Skip("python3 in an image printed %r" % r.out)
    for i in bench.rounds(9, 3, 20, 3):
        say("python: round %d" % (i + 1))
        ours.append(smolvm(*run, home=bench.home).seconds)
        trues.append(run_true(bench.home).seconds)
    yield Row("start/python", "python3 -c 'print(1)'", "sandbox run -- true", ours, trues)
