#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests.

usage: run.py [-k WORD] [-j N] [-v] [--list] [SUITE...]     (no suite: all of them)

A test program prints TAP: "ok 1 - name", "not ok 2 - name", "ok 3 - name # SKIP why", "1..3",
and lines that begin with "#" about the test that comes next or has just failed. The last line
printed here is always "N passed, N failed, N skipped"; the exit code is 0 when nothing failed and
something passed.

-k WORD  only tests with WORD in the name of the program or, for Python ones, of the test
-j N     programs at a time (2)
-v       print every test, not only what failed or was skipped
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("SMOLVM_BUILD", "build"))
LIMIT_S = 900           # for a whole program, when it has no limit of its own
OUTPUT_MAX = 1 << 20    # bytes of a program's output that are kept
SHOWN_LINES = 40        # of what a failed test said
FUZZ_S = 8              # per target


class Program:
    """Something that prints TAP. cmd runs in the root folder."""

    def __init__(self, suite, name, cmd, env=None, limit_s=LIMIT_S, alone=False, filters=False,
                 twice=False):
        self.suite, self.name, self.cmd, self.twice = suite, name, cmd, twice
        self.env, self.limit_s, self.alone, self.filters = env or {}, limit_s, alone, filters


class Count:
    passed = failed = skipped = 0


lock = threading.Lock()
count = Count()
failures = []
running = set()


def say(line):
    with lock:
        print(line, flush=True)


# ---- the suites: each gives its programs -----------------------------------------------------

def setting_up(suite, *steps):
    """Run what a suite needs first; a program that fails in its place where that fails."""
    for cmd, env in steps:
        r = subprocess.run(cmd, cwd=ROOT, env={**os.environ, **env}, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode != 0:
            with tempfile.NamedTemporaryFile("w", delete=False, suffix=".log") as f:
                f.write(r.stdout)
            text = "sed 's/^/# /' %s | tail -n 60; rm -f %s; echo not ok 1 - %s; echo 1..1" % (
                f.name, f.name, "setting up: " + " ".join(cmd)[:100])
            return [Program(suite, "set-up", ["sh", "-c", text])]
    return []


def meson_tests(suite, build, env=None, label="unit"):
    r = subprocess.run(["meson", "introspect", "--tests", build], cwd=ROOT, check=True,
                       stdout=subprocess.PIPE)
    for t in json.loads(r.stdout):
        if not any(s.endswith(":" + label) for s in t["suite"]):
            continue
        if t["protocol"] == "tap":
            yield Program(suite, t["name"], t["cmd"], {**t["env"], **(env or {})},
                          min(t["timeout"] or LIMIT_S, LIMIT_S))
        else:
            yield Program(suite, t["name"], [sys.executable, __file__, "--as-tap", t["name"]] +
                          t["cmd"], {**t["env"], **(env or {})}, t["timeout"] or LIMIT_S)


def suite_static():
    for check in ("source", "headers", "shell", "python"):
        yield Program("static", check, ["tools/lint.sh", check])
    yield Program("static", "source checker", ["tools/check_source.py", "--self-test"])
    yield Program("static", "test runner", ["tests/selftest.py"])


def suite_unit():
    yield from setting_up("unit", (["ninja", "-C", BUILD, "--quiet", "meson-test-prereq"], {})) or \
        meson_tests("unit", BUILD)


def sanitized(suite, sanitizers, env, label="unit"):
    """The unit tests with this label in a build of their own, build-SUITE."""
    build = os.path.join(ROOT, "build-" + suite)
    steps, programs = [], []
    if not os.path.exists(os.path.join(build, "build.ninja")):
        steps.append((["meson", "setup", build, "-Db_sanitize=" + sanitizers,
                       "-Db_lundef=false", "-Dbuildtype=debug", "-Doptimization=1"], {}))
    steps.append((["ninja", "-C", build, "--quiet", "build.ninja"], {}))
    failed = setting_up(suite, *steps)
    if not failed:
        programs = list(meson_tests(suite, build, env, label))
        targets = [os.path.relpath(p.cmd[0], build) for p in programs]
        failed = setting_up(suite, (["ninja", "-C", build, "--quiet"] + targets, {}))
    return failed or programs


def suite_asan():
    return sanitized("asan", "address,undefined", {
        "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})


def suite_tsan():
    """Data races, where threads share memory: devices and machines."""
    return sanitized("tsan", "thread", {"TSAN_OPTIONS": "exitcode=66:second_deadlock_stack=1"},
                     "device")


def suite_lint():
    for check in ("cppcheck", "tidy", "clang"):
        yield Program("lint", check, ["tools/lint.sh", check])


def suite_fuzz():
    names = subprocess.run(["tools/fuzz.sh", "--list"], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    yield from setting_up("fuzz", (["tools/fuzz.sh", "--build"], {})) or [
        Program("fuzz", name, ["tools/fuzz.sh", "--run", str(FUZZ_S), name]) for name in names]


def scripts(suite):
    """The executable test_* files of tests/SUITE/; "alone" in the first lines: nothing beside."""
    folder = os.path.join(ROOT, "tests", suite)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        if not name.startswith("test_") or not name.endswith((".py", ".sh")):
            continue
        with open(path, encoding="utf-8") as f:
            head = f.read(2000)
        limit = re.search(r"^# time limit: (\d+) s", head, re.M)
        yield Program(suite, name, [path], {"SMOLVM_BUILD": BUILD},
                      int(limit.group(1)) if limit else LIMIT_S,
                      re.search(r"^# runs alone", head, re.M) is not None,
                      name.endswith(".py") and "from lib import" in head)


def suite_lab():
    """Inside a machine of ours with a /dev/kvm: what needs one, and the boot tests once more, on
    the built-in VMM."""
    limit = 600 if os.cpu_count() > 1 else 1200
    yield from setting_up("lab", (["ninja", "-C", BUILD, "--quiet", "lab-programs"], {}))
    inside = ["tools/lab.sh", "env", "SMOLVM_TEST_BACKEND=builtin"]
    for name in ("lab", "boot"):
        for p in scripts(name):
            env = {**p.env, "LAB_TIMEOUT": "%ds" % (limit + 60)}
            yield Program("lab", p.name, inside + p.cmd, env,
                          limit + 30, p.alone, p.filters, True)


SUITES = {
    "static": suite_static, "unit": suite_unit, "cli": lambda: scripts("cli"),
    "conformance": lambda: scripts("conformance"), "boot": lambda: scripts("boot"),
    "lab": suite_lab, "asan": suite_asan, "tsan": suite_tsan, "lint": suite_lint,
    "fuzz": suite_fuzz,
}


# ---- running one program ---------------------------------------------------------------------

RESULT = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?(.*?)\s*(?:#\s*(SKIP|TODO)\b\s*(.*))?$",
                    re.I)


class Parser:
    """Reads TAP lines as they come and counts them."""

    def __init__(self, program, verbose):
        self.program, self.verbose = program, verbose
        self.results = self.failed = 0
        self.plan = None
        self.notes = []
        self.pending = None     # a failed test, until what it says afterwards has been read

    def line(self, line):
        m = RESULT.match(line)
        plan = re.match(r"^1\.\.(\d+)\s*(?:#.*)?$", line)
        if m:
            self.flush()
            self.result(m)
        elif plan:
            self.plan = int(plan.group(1))
        elif line.startswith("Bail out!"):
            self.fail(line)
        elif line:
            self.notes.append(line)
            del self.notes[:-400]

    def result(self, m):
        skipped = (m.group(4) or "").upper() == "SKIP"
        name, why = m.group(3) or m.group(2), m.group(5)
        if m.group(1) and skipped:      # cmocka's way: the name comes last, the reason before it
            name, why = why, self.notes[-1].removeprefix("# ") if self.notes else ""
        name = "%s/%s: %s" % (self.program.suite, self.program.name, name)
        self.results += 1
        if m.group(1) and not skipped:
            self.failed += 1
            self.pending = name
            return
        with lock:
            if skipped:
                count.skipped += 1
            else:
                count.passed += 1
        if skipped:
            say("skipped  %s (%s)" % (name, why or "no reason given"))
        elif self.verbose:
            say("ok       %s" % name)
        self.notes = []

    def flush(self):
        if self.pending:
            report(self.pending, self.notes)
            self.pending = None
            self.notes = []

    def fail(self, why):
        self.flush()
        self.failed += 1
        report("%s/%s: %s" % (self.program.suite, self.program.name, why), self.notes)


def report(name, notes):
    with lock:
        count.failed += 1
        failures.append(name)
        print("FAILED   %s" % name)
        for line in notes[-SHOWN_LINES:]:
            print("    | %s" % line.removeprefix("# ")[:400])
        sys.stdout.flush()


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def attempt(program, cmd, take):
    """Run it once; take(line) gets what it prints. Returns (exit code, whether it was ended)."""
    timed_out = []
    process = subprocess.Popen(cmd, cwd=ROOT, env={**os.environ, **program.env},
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    with lock:
        running.add(process)

    def stop():
        timed_out.append(True)
        end_group(process)
    timer = threading.Timer(program.limit_s, stop)
    timer.start()
    kept = 0
    for raw in process.stdout:
        kept += len(raw)
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if kept <= OUTPUT_MAX or RESULT.match(line):
            take(line)
    rc = process.wait()
    timer.cancel()
    with lock:
        running.discard(process)
    end_group(process)
    return rc, bool(timed_out)


def attempt_twice(program, cmd, take):
    """A lab that stands still is emulated anew, once, and that is said."""
    lines = []
    rc, timed_out = attempt(program, cmd, lines.append)
    if timed_out:
        say("again    %s/%s: stood still; the last that it said: %s" % (
            program.suite, program.name, lines[-1] if lines else "nothing"))
        lines = []
        rc, timed_out = attempt(program, cmd, lines.append)
    for line in lines:
        take(line)
    return rc, timed_out


def run(program, options):
    cmd = program.cmd
    if options.k and program.filters and options.k not in program.name:
        cmd = cmd + ["-k", options.k]
    parser = Parser(program, options.v)
    started = time.monotonic()
    try:
        rc, timed_out = (attempt_twice if program.twice else attempt)(program, cmd, parser.line)
    except OSError as e:
        parser.fail("cannot be started: %s" % e)
        return
    parser.flush()
    if timed_out:
        parser.fail("did not end within %d s" % program.limit_s)
    elif rc != 0 and not parser.failed:
        parser.fail("ended with %s" % ("signal %d" % -rc if rc < 0 else "exit code %d" % rc))
    elif parser.plan is not None and parser.plan != parser.results and not parser.failed:
        parser.fail("planned %d tests, ran %d" % (parser.plan, parser.results))
    elif not parser.results and parser.plan is None and not parser.failed:
        parser.fail("no test ran")
    if parser.results:
        say("%-8s %s/%s (%d, %.1f s)" % ("failed" if parser.failed else "passed", program.suite,
                                         program.name, parser.results,
                                         time.monotonic() - started))


def run_all(programs, options):
    """A few at a time; those that must be alone come last."""
    todo = [p for p in programs if not p.alone]
    alone = [p for p in programs if p.alone]

    def worker():
        while True:
            with lock:
                if not todo:
                    return
                program = todo.pop(0)
            run(program, options)
    threads = [threading.Thread(target=worker) for _ in range(options.j)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for program in alone:
        run(program, options)


def as_tap(name, cmd):
    """For a program that has only an exit code."""
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace")
    for line in r.stdout.splitlines():
        print("# " + line)
    skip = " # SKIP it says so" if r.returncode == 77 else ""
    print("%sok 1 - %s%s\n1..1" % ("" if r.returncode in (0, 77) else "not ", name, skip))
    return 0


def interrupted(number, frame):
    for process in list(running):
        end_group(process)
    print("\nstopped by signal %d" % number)
    print("%d passed, %d failed, %d skipped" % (count.passed, count.failed, count.skipped),
          flush=True)
    os._exit(128 + number)


def main():
    if sys.argv[1:2] == ["--as-tap"]:
        return as_tap(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("-k", metavar="WORD")
    parser.add_argument("-j", metavar="N", type=int, default=2)
    parser.add_argument("-v", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    for suite in options.suites:
        if suite not in SUITES:
            parser.error("there is no suite '%s'; there are: %s" % (suite, ", ".join(SUITES)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    started = time.monotonic()
    for suite in options.suites or SUITES:
        programs = list(SUITES[suite]())
        if options.k:
            programs = [p for p in programs if p.filters or options.k in p.name]
        if options.list:
            for p in programs:
                print("%s/%s" % (p.suite, p.name))
            continue
        if programs:
            say("---- %s" % suite)
            run_all(programs, options)
    if options.list:
        return 0
    if failures:
        print("---- what failed:")
        for name in failures:
            print("  %s" % name)
    print("---- %d s" % (time.monotonic() - started))
    print("%d passed, %d failed, %d skipped" % (count.passed, count.failed, count.skipped))
    return 0 if count.passed and not count.failed else 1


if __name__ == "__main__":
    sys.exit(main())
