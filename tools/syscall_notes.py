#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Collects the notes of system calls from the sources, as rules for src/jail/filter_gen.c.

A note stands beside the code that makes the calls:

    /* syscalls (io, worker): preadv pwritev ioctl(FIONREAD BLKDISCARD) */

The kinds are those of enum jail_kind, "all" of them, "never" (the process ends) and "absent" (the
call fails with ENOSYS, as if the kernel did not know it). Values in brackets are those that one
argument may have; SELECTORS says which argument. CHECKS are made without being asked for.

usage: syscall_notes.py SRC OUTPUT [DEPFILE]
"""

import os
import re
import sys

KINDS = ["main", "vcpu", "io", "worker", "fs"]
ACTIONS = {"never": "NEVER", "absent": "ABSENT"}
SELECTORS = {"ioctl": 1, "fcntl": 1, "prctl": 0, "madvise": 2, "seccomp": 0,
             "socketpair": 0}
# argument, mask, value: (argument & mask) == value
THREAD = "CLONE_VM | CLONE_THREAD | CLONE_SIGHAND"
CHECKS = {
    "mmap": (2, "PROT_EXEC", "0"),
    "mprotect": (2, "PROT_EXEC", "0"),
    "clone": (0, THREAD + " | NAMESPACES", THREAD),
    "tgkill": (0, "0xffffffff", "OWN_PID"),
}
FOLDERS = ["backend", "base", "fileserver", "hypervisor", "jail", "proto", "virtio", "vmm",
           "vmmproc"]
NOTE = re.compile(r"/\*\s*syscalls \(([a-z, ]+)\):([^/]*?)\*/")
CALL = re.compile(r"([a-z_0-9]+)(?:\(([A-Z_0-9 ]+)\))?")


MACHINES = {"x86_64", "aarch64"}


def is_foreign(path):
    """Is it for another architecture: thing_x86_64.c, x86_64/thing.c?"""
    words = set(re.split(r"[/.]|_(?=x86_64|aarch64)", path))
    return bool(words & (MACHINES - {os.uname().machine}))


class Wrong(Exception):
    pass


def rules_of(kinds, text):
    """The rules of one note."""
    names = [k.strip() for k in kinds.split(",")]
    if len(names) == 1 and names[0] in ACTIONS:
        who, action = "ALL_KINDS", ACTIONS[names[0]]
    else:
        for name in names:
            if name not in KINDS + ["all"]:
                raise Wrong("no kind of thread is called '%s'" % name)
        who = "ALL_KINDS" if "all" in names else " | ".join(
            "1u << JAIL_" + n.upper() for n in names)
        action = "ALLOW"
    text = re.sub(r"\n\s*\*", "\n", text)
    rest = CALL.sub("", text).strip(" \t\n")
    if rest:
        raise Wrong("'%s' is no system call" % rest)
    for match in CALL.finditer(text):
        call, values = match.group(1), match.group(2)
        where = "RULE(%s, %s, %s" % (who, action, call)
        if action == "ALLOW" and call in CHECKS:
            if values:
                raise Wrong("the argument of %s is checked anyway" % call)
            yield where + ", 1, %d, %s, %s)" % CHECKS[call]
        elif call in SELECTORS and action == "ALLOW":
            if not values:
                raise Wrong("%s needs the values that are allowed, in brackets" % call)
            for value in values.split():
                yield where + ", 1, %d, 0xffffffff, %s)" % (SELECTORS[call], value)
        elif values:
            raise Wrong("which argument of %s is meant? see SELECTORS" % call)
        else:
            yield where + ", 0, 0, 0, 0)"


def collect(root):
    """All rules of a source tree, and what was looked at."""
    rules, seen = [], []
    for folder in FOLDERS:
        for base, folders, files in os.walk(os.path.join(root, folder)):
            folders.sort()
            seen.append(base)
            for name in sorted(files):
                path = os.path.join(base, name)
                if not name.endswith((".c", ".h")) or is_foreign(path):
                    continue
                seen.append(path)
                with open(path, encoding="utf-8") as f:
                    text = f.read()
                for note in NOTE.finditer(text):
                    try:
                        rules += rules_of(note.group(1), note.group(2))
                    except Wrong as e:
                        line = text.count("\n", 0, note.start()) + 1
                        raise Wrong("%s:%d: %s" % (path, line, e)) from None
    return sorted(set(rules)), seen


def main():
    try:
        rules, seen = collect(sys.argv[1])
    except Wrong as e:
        sys.exit(str(e))
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        f.write("".join(r + "\n" for r in rules))
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w", encoding="utf-8") as f:
            f.write("%s: %s\n" % (sys.argv[2], " ".join(seen)))


if __name__ == "__main__":
    main()
