#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The library, through the example that the documentation shows."""

from lib import *

HELLO = os.path.join(BUILD, "examples", "hello")


@test()
def the_example_runs(t):
    if not os.path.exists(HELLO):
        raise Failure("%s was not built" % HELLO)
    env = t.environment({"SMOLVM_LIBEXEC": BUILD})
    r = subprocess.run([HELLO], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=45)
    check(r.returncode == 0 and b"hello" in r.stdout.lower(), "%s" % r)


main()
