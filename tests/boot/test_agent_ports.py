#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent does what the host says, and what nobody else says: not the machine's own processes."""

from lib import *

SOURCE = os.path.join(ROOT, "tests", "tools", "vsockpeer.c")
ECHO = 3  # answers whoever gets through


def peer(t, *lines, **more):
    """Runs vsockpeer in a machine with each of the lines of arguments; what it says."""
    program = t.path("tools", "vsockpeer")
    os.makedirs(os.path.dirname(program))
    compiler = shutil.which("musl-gcc") or "gcc"
    headers = ["-idirafter", "/usr/include", "-idirafter",
               "/usr/include/%s-linux-gnu" % os.uname().machine] if "musl" in compiler else []
    subprocess.run([compiler, "-static", "-O1", *headers, "-o", program, SOURCE], check=True)
    script = "\n".join("/tools/vsockpeer " + line for line in lines)
    r = t.sandbox(*more.pop("flags", []), "-v", "%s:/tools:ro" % t.path("tools"), "--", "sh", "-c",
                  script, **more)
    check(r.rc == 0, "exit code %d: %s" % (r.rc, r.err))
    return r.out.decode().split("\n")[:-1]


@test()
def processes_of_the_machine_cannot_command_the_agent(t):
    lines = ["%d %d" % (cid, port) for cid in (1, 2, 3) for port in (1, 2, ECHO, 4)]
    same(peer(t, *lines), ["refused"] * len(lines), "answers")


@test()
def nor_can_users_of_the_machine(t):
    same(peer(t, "1 %d" % ECHO, "3 %d" % ECHO, flags=["--user", "1000:1000"]), ["refused"] * 2,
         "answers")


@test()
def nor_can_those_who_claim_to_be_the_host(t):
    lines = ["%d %d 2" % (cid, ECHO) for cid in (1, 3)]
    same(peer(t, *lines), ["refused"] * len(lines), "answers")


main()
