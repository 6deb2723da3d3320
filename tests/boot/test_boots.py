#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots many machines in a row, with one and with two virtual CPUs: no hang, no panic.

test_boots.py [N]: N of each (5).
"""

from lib import *

N = next((int(a) for a in sys.argv[1:] if a.isdigit()), 5)
BOOT_S = 30


def boots(t, cpus):
    times = []
    for i in range(N):
        r = t.sandbox("--cpus", str(cpus), "--", "echo", str(i), timeout=BOOT_S)
        r.gives(0, b"%d\n" % i, b"")
        times.append(r.seconds)
    times.sort()
    print("# %d CPU: median %.2f s, slowest %.2f s" % (cpus, times[N // 2], times[-1]))
    check(times[-1] < max(5 * times[N // 2], 10), "the slowest of them took %.1f s" % times[-1])


@test(limit=60 + N * BOOT_S)
def one_cpu(t):
    boots(t, 1)


@test(limit=60 + N * BOOT_S)
def two_cpus(t):
    boots(t, 2)


main()
