#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures smolvm side by side with what one would use instead, in one run.

usage: bench.py [ROW...] [--quick] [-n ROUNDS] [--json FILE] [--list]

  ROW        only rows or groups whose name begins so: start, import/tar, share
  --quick    fewer and smaller rounds
  -n ROUNDS  as many rounds of everything
  --json     the figures of every round too

Rounds of ours and of the others alternate, so that what else the host does hits both. "ratio" is
ours by the other's, of medians; below one is better, for rates as well. Beside it stand the least
and the greatest of the rounds. On a busy host there are fewer rounds, not a longer run. A row
whose aim is missed is no failure: exit code 0 says only that the bench has run.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time

import peers
import rows_import
import rows_lab
import rows_share
import rows_size
import rows_start
import rows_stream
from common import BUILD, Note, Row, Skip, Skipped, say, sleeping_machine, smolvm, temp_folder

# Group -> what makes its rows; the beginnings of names by which it is chosen.
GROUPS = (
    ("start", rows_start.start_rows, ("start/true", "start/cpu", "start/floor", "start/cloud")),
    ("timing", rows_start.timing_rows, ("timing",)),
    ("start", rows_start.python_rows, ("start/python",)),
    ("import", rows_import.import_rows, ("import/",)),
    ("share", rows_share.share_rows, ("share/",)),
    ("stream", rows_stream.stream_rows, ("stream/",)),
    ("exec", rows_stream.exec_rows, ("exec/",)),
    ("memory", rows_size.memory_rows, ("memory/",)),
    ("size", rows_size.size_rows, ("size",)),
    ("lab", rows_lab.lab_rows, ("lab/",)),
)
HEAD = ["row", "what", "ours", "other", "against", "ratio", "min-max", "aim", "met"]
RIGHT = {2, 3, 5, 6, 7}


class Bench:
    """What rows ask of a run."""

    def __init__(self, options):
        self.quick, self.n = options.quick, options.n
        self.home = temp_folder("home")
        self.build = BUILD
        self.port_rtt = None
        self._machine = None

    def rounds(self, normal, quick, seconds, least=1):
        """Numbers of rounds: as many as wanted, but on a busy host no more than fit in a time."""
        wanted_rounds = self.n or (quick if self.quick else normal)
        end = time.monotonic() + (seconds / 4 if self.quick else seconds)
        for i in range(wanted_rounds):
            if not self.n and i >= least and time.monotonic() > end:
                break
            yield i

    def emulated(self):
        """Whether smolvm would emulate here: no KVM is of use."""
        return '"accelerator": "kvm"' not in smolvm("doctor", "--json", home=self.home,
                                                    wanted=None).out

    def machine(self):
        """How smolvm starts its machines, looked up at one that runs."""
        if not self._machine:
            say("looking at a machine of ours")
            with sleeping_machine(self.home, "--backend", "qemu") as (processes, _):
                with open("/proc/%d/cmdline" % rows_size.qemu_of(processes), "rb") as f:
                    line = f.read().decode().split("\0")
            self._machine = peers.Machine(line)
        return self._machine


def wanted(names, chosen):
    return not chosen or any(n.startswith(c) or c.startswith(n) for n in names for c in chosen)


def print_table(rows):
    cells = [HEAD] + [r.cells() for r in rows]
    widths = [max(len(c[i]) for c in cells) for i in range(len(HEAD))]
    for number, line in enumerate(cells):
        print("  ".join(c.rjust(w) if i in RIGHT else c.ljust(w)
                        for i, (c, w) in enumerate(zip(line, widths))).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in widths))


def print_notes(notes):
    for note in notes:
        width = max(len(w) for w, _ in note.lines)
        print("\n%s" % note.title)
        for what, value in note.lines:
            print("  %s  %s" % (what.ljust(width), value))


def host_line(bench):
    kvm = "KVM" if bench._machine and bench._machine.kvm else "emulation"
    return "%s, %d CPUs, load %.1f, %s" % (platform.release(), os.cpu_count() or 0,
                                           os.getloadavg()[0], kvm)


def run_group(bench, group, make, out):
    try:
        out.extend(make(bench))
    except Skip as e:
        out.append(Skipped(group, e))


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-n", type=int, metavar="ROUNDS")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    names = [n for _, _, names in GROUPS for n in names]
    for row in options.rows:
        if not wanted(names, [row]):
            parser.error("there is no row '%s'; there are: %s" % (row, " ".join(names)))
    if options.list:
        print("\n".join(names))
        return 0
    if options.n is not None and options.n < 1:
        parser.error("-n takes a number from 1 up")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    begun = time.monotonic()
    bench, out = Bench(options), []
    for group, make, names in GROUPS:
        if wanted(names, options.rows):
            run_group(bench, group, make, out)
    say("")
    out = [r for r in out if wanted([r.name], options.rows)]
    rows = [r for r in out if isinstance(r, Row)]
    if options.json == "-":
        json.dump({"host": host_line(bench), "rows": [r.json() for r in out]}, sys.stdout)
        return 0
    if rows:
        print_table(rows)
    print_notes([r for r in out if isinstance(r, Note)])
    for r in out:
        if isinstance(r, Skipped):
            print("\nnot measured: %s: %s" % (r.name, r.why))
    print("\n%s; %d s" % (host_line(bench), time.monotonic() - begun))
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"host": host_line(bench), "rows": [r.json() for r in out]}, f, indent=1)
            f.write("\n")
    return 0 if rows or not out else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
