#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the guest's initramfs: the agent as /init, and the directories that it mounts on.

The archive ("newc") depends on nothing but the agent: everything belongs to root and is of 1970.
"""

import stat
import sys

DIRECTORIES = ["dev", "lower", "rw", "newroot"]
CONSOLE = (5, 1)


def entry(number, name, mode, data=b"", device=(0, 0)):
    """One archive member: a header of hexadecimal numbers, the name, the data, each padded."""
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = [number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def main():
    agent, output = sys.argv[1:]
    with open(agent, "rb") as f:
        program = f.read()
    members = [(name, stat.S_IFDIR | 0o755, b"", (0, 0)) for name in DIRECTORIES]
    members.append(("dev/console", stat.S_IFCHR | 0o600, b"", CONSOLE))
    members.append(("init", stat.S_IFREG | 0o755, program, (0, 0)))
    with open(output, "wb") as f:
        for number, (name, mode, data, device) in enumerate(members, 1):
            f.write(entry(number, name, mode, data, device))
        f.write(entry(0, "TRAILER!!!", 0))


if __name__ == "__main__":
    main()
