#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the test runner itself: can it fail?"""

import contextlib
import importlib.util
import io
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("run", os.path.join(HERE, "run.py"))
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


class Options:
    k, v = None, False


# name; shell command; passed, failed, skipped
CASES = [
    ("a test that passes", "echo ok 1 - a; echo 1..1", (1, 0, 0)),
    ("a test that fails", "echo not ok 1 - a; echo 1..1", (0, 1, 0)),
    ("a failure although the exit code is 0", "echo ok 1; echo not ok 2; echo 1..2", (1, 1, 0)),
    ("a skipped test", "echo 'ok 1 - a # SKIP why'; echo 1..1", (0, 0, 1)),
    ("a skipped test of cmocka's", "echo why; echo 'not ok 1 # SKIP a'; echo 1..1", (0, 0, 1)),
    ("a program that only fails", "exit 3", (0, 1, 0)),
    ("a program that crashes after its tests", "echo ok 1; kill -SEGV $$", (1, 1, 0)),
    ("a program that says nothing", "true", (0, 1, 0)),
    ("a program that ends early", "echo 1..3; echo ok 1", (1, 1, 0)),
    ("a program that hangs", "echo ok 1; sleep 60", (1, 1, 0)),
    ("a program that bails out", "echo 'Bail out! no'; exit 1", (0, 1, 0)),
    ("a plan of nothing", "echo 1..0", (0, 0, 0)),
    ("a program that does not exist", None, (0, 1, 0)),
]


def main():
    bad = 0
    print("1..%d" % len(CASES), flush=True)
    for number, (name, command, wanted) in enumerate(CASES, 1):
        run.count = run.Count()
        cmd = ["sh", "-c", command] if command else ["/does/not/exist"]
        with contextlib.redirect_stdout(io.StringIO()):
            run.run(run.Program("self", "test", cmd, limit_s=2), Options)
        got = (run.count.passed, run.count.failed, run.count.skipped)
        bad += got != wanted
        print("%sok %d - test runner: %s" % ("" if got == wanted else "not ", number, name))
        if got != wanted:
            print("# wanted %s, got %s" % (wanted, got))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
