#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run: a guest whose root attacks the host through the agent's channel."""

from lib import *

SOURCE = os.path.join(ROOT, "tests", "tools", "hostile.c")


def hostile(t, mode, *flags, **more):
    """Runs the attack inside a machine, from a shared folder."""
    program = t.path("tools", "hostile")
    if not os.path.exists(program):
        os.makedirs(os.path.dirname(program))
        compiler = shutil.which("musl-gcc") or "gcc"
        headers = ["-idirafter", "/usr/include", "-idirafter",
                   "/usr/include/%s-linux-gnu" % os.uname().machine] if "musl" in compiler else []
        subprocess.run([compiler, "-static", "-O1", *headers, "-o", program, SOURCE], check=True)
    return t.sandbox(*flags, "-v", "%s:/tools:ro" % t.path("tools"), "--", "/tools/hostile", mode,
                     **more)


@test()
def garbage_ends_the_machine_with_a_reason(t):
    hostile(t, "garbage").fails(125, "broke the protocol")


@test()
def a_second_greeting_ends_the_machine(t):
    hostile(t, "greeting").fails(125, "broke the protocol")


@test(backend="qemu")
def ten_thousand_streams_end_the_machine(t):
    hostile(t, "opens").fails(125, "broke the protocol")


@test(backend="qemu")
def frames_of_streams_that_were_never_opened_end_the_machine(t):
    hostile(t, "frames").fails(125, "broke the protocol")


@test(backend="builtin")
def ten_thousand_connections_are_refused(t):
    hostile(t, "dial").gives(0)


@test()
def an_agent_that_never_reads_again_does_not_hold_us(t):
    r = hostile(t, "deaf", "-i", "--timeout", "3s", stdin=b"x" * (8 << 20))
    same(r.rc, 124, "exit code")
    check(r.seconds < 30, "it took %.1f s" % r.seconds)


@test()
def a_guest_that_restarts_is_said_to(t):
    hostile(t, "off").fails(125, "restarted itself")


@test()
def a_panic_is_said_to_be_one(t):
    hostile(t, "panic").fails(125, "panicked")


main()
