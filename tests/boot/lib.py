# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: cases with a home of their own, running, looking.

A file of tests is

    from lib import *

    @test()
    def says_hello(t):
        t.sandbox("--", "echo", "hello").gives(out=b"hello\\n")

    main()

Each case gets a fresh SMOLVM_HOME and a scratch folder, has a time limit, and fails when a process
or a file of a machine is left behind at its end.
"""

import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback

__all__ = [
    "test", "main", "Skip", "Failure", "check", "same", "wait_for", "json", "os", "random",
    "shutil", "signal", "stat", "subprocess", "sys", "tempfile", "threading", "time", "ROOT",
    "BUILD", "SMOLVM", "BACKEND", "AS_ROOT", "NOBODY", "need_root", "need_tool", "contextlib",
    "processes_of",
]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("SMOLVM_BUILD", "build"))
SMOLVM = os.path.join(BUILD, "smolvm")
AS_ROOT = os.geteuid() == 0
NOBODY = 65534
BACKEND = os.environ.get("SMOLVM_TEST_BACKEND") or "qemu"  # what the machines run on
SLOWER = 3 if os.environ.get("SMOLVM_LAB") else 1           # this is itself an emulated machine
LIMIT_S = 60 * SLOWER   # for one case
RUN_S = 45 * SLOWER     # for one run of smolvm
GONE_S = 8 * SLOWER     # until everything of a machine must have gone
SHOWN = 1500        # bytes of an output in a message


class Skip(Exception):
    """This case cannot be tried here; the text says why."""


class Failure(Exception):
    """What was wrong."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def shorten(value):
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN // 2] + " ... " + text[-SHOWN // 2:]


def same(got, wanted, what="value"):
    if got != wanted:
        raise Failure("%s: wanted %s, got %s" % (what, shorten(wanted), shorten(got)))


def wait_for(condition, what, seconds=10):
    """Until condition() is true; returns what it gave."""
    end = time.monotonic() + seconds * SLOWER
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("waited %s s for %s" % (seconds, what))
        time.sleep(0.02)


def need_root():
    if not AS_ROOT:
        raise Skip("needs root")


def need_tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skip("%s is not installed" % name)
    return path


# ---- processes -------------------------------------------------------------------------------

def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def open_files(pid):
    try:
        for fd in os.listdir("/proc/%s/fd" % pid):
            with contextlib.suppress(OSError):
                yield os.readlink("/proc/%s/fd/%s" % (pid, fd)).encode()
    except OSError:
        return


def processes_of(home):
    """Processes that have to do with a state folder: pid -> name."""
    found, needle = {}, home.encode()
    mine = {os.getpid(), os.getppid()}
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in mine:
            continue
        if read("/proc/%s/stat" % pid).rpartition(b") ")[2][:1] in (b"Z", b""):
            continue
        if needle in read("/proc/%s/environ" % pid) or needle in read("/proc/%s/cmdline" % pid) \
                or any(needle in name for name in open_files(pid)):
            name = read("/proc/%s/comm" % pid).decode("utf-8", "replace").strip()
            if name:
                found[int(pid)] = name
    return found


def left_files(home):
    """What of machines is in a state folder."""
    left = []
    for folder in ("run", "tmp", "scratch"):
        for base, folders, files in os.walk(os.path.join(home, folder)):
            left += [os.path.relpath(os.path.join(base, f), home) for f in files + folders
                     if not (folder == "scratch" and f.startswith("empty-"))]
    return left


def peak_kib(pid):
    """The most memory a process has had: VmHWM."""
    for line in read("/proc/%d/status" % pid).decode().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


# ---- running ---------------------------------------------------------------------------------

class Result:
    """How a command ended: rc (negative: a signal), out, err, seconds."""

    def __init__(self, args, rc, out, err, seconds):
        self.args, self.rc, self.out, self.err, self.seconds = args, rc, out, err, seconds

    def describe(self):
        return "%s\nexit code %s after %.1f s\nstdout: %s\nstderr: %s" % (
            shorten(self.args), self.rc, self.seconds, shorten(self.out), shorten(self.err))

    def gives(self, rc=0, out=None, err=None):
        """Exit code, and where named all of an output."""
        if self.rc != rc or (out is not None and self.out != out) or \
                (err is not None and self.err != err):
            raise Failure("wanted exit code %s%s%s of\n%s" % (
                rc, "" if out is None else ", stdout %s" % shorten(out),
                "" if err is None else ", stderr %s" % shorten(err), self.describe()))
        return self

    def text(self):
        return self.out.decode("utf-8", "replace").strip()

    def fails(self, rc, *words):
        """A clear error: the exit code, one line for a person, all of the words in it."""
        message = self.err.decode("utf-8", "replace").strip()
        lines = message.splitlines()
        if self.rc != rc or not lines or len(lines) > 2 or \
                not all(w.lower() in message.lower() for w in words):
            raise Failure("wanted exit code %s and one line with %s of\n%s" % (
                rc, ", ".join(words) or "a reason", self.describe()))
        check(len(message) < 1500, "a message of %d bytes: %s" % (len(message), shorten(message)))
        return self


class Running:
    """A smolvm that has been started; collects what it prints."""

    def __init__(self, args, stdin=None, **popen):
        self.args = args
        self.started = time.monotonic()
        self.process = subprocess.Popen(args, stdin=stdin if stdin is not None else
                                        subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **popen)
        self.pid = self.process.pid
        self.out, self.err = bytearray(), bytearray()
        self.threads = [threading.Thread(target=self.collect, args=a, daemon=True) for a in
                        ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def collect(stream, into):
        while True:
            data = os.read(stream.fileno(), 1 << 16)
            if not data:
                return
            into += data

    def says(self, what, seconds=20 * SLOWER):
        """Wait until its output holds something."""
        wait_for(lambda: what in self.out or self.process.poll() is not None,
                 "%r of %s; it said %s and %s" % (what, self.args, shorten(bytes(self.out)),
                                                  shorten(bytes(self.err))), seconds)
        if what not in self.out:
            for thread in self.threads:
                thread.join(1)
        check(what in self.out, "it ended without saying %r\n%s" % (
            what, Result(self.args, self.process.poll(), bytes(self.out), bytes(self.err),
                         time.monotonic() - self.started).describe()))

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=RUN_S):
        seconds = max(seconds * SLOWER, RUN_S) if SLOWER > 1 else seconds
        try:
            rc = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure("did not end within %s s\n%s" % (seconds, Result(
                self.args, None, bytes(self.out), bytes(self.err),
                time.monotonic() - self.started).describe())) from None
        for thread in self.threads:
            thread.join(5)
        return Result(self.args, rc, bytes(self.out), bytes(self.err),
                      time.monotonic() - self.started)


class Case:
    """What a test gets: a home, a scratch folder, and ways to run smolvm there."""

    def __init__(self):
        self.tmp = tempfile.mkdtemp(prefix="smolvm-")
        os.chmod(self.tmp, 0o755)
        self.home = os.path.join(self.tmp, "h")
        self.user = None            # a user id to run as
        self.binary = SMOLVM
        self.clean = True           # look for what is left behind
        self.started = []
        self.undo = []              # called at the end, last one first

    def path(self, *names):
        return os.path.join(self.tmp, *names)

    def write(self, name, data=b"", mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        os.chmod(path, mode)
        return path

    def folder(self, name):
        os.makedirs(self.path(name), exist_ok=True)
        return self.path(name)

    def environment(self, extra=None):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("SMOLVM_") and k not in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR")}
        env["SMOLVM_HOME"], env["SMOLVM_BACKEND"] = self.home, BACKEND
        env.update(extra or {})
        return {k: v for k, v in env.items() if v is not None}

    def become_nobody(self):
        """From here on smolvm runs as a user without any rights, where that can be had."""
        if not AS_ROOT:
            return
        self.user = NOBODY
        self.binary = unprivileged_build()
        os.makedirs(self.home, exist_ok=True)
        os.chown(self.home, NOBODY, NOBODY)

    def as_user(self):
        if self.user is None:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}

    def start(self, *args, stdin=None, env=None, prefix=(), **popen):
        running = Running([*prefix, self.binary, *args], stdin=stdin, env=self.environment(env),
                          cwd=popen.pop("cwd", self.tmp), **self.as_user(), **popen)
        self.started.append(running)
        return running

    def run(self, *args, stdin=None, timeout=RUN_S, **more):
        """Run smolvm to its end. stdin: bytes, or a file."""
        feed = isinstance(stdin, (bytes, bytearray))
        running = self.start(*args, stdin=subprocess.PIPE if feed else stdin, **more)
        if feed:
            def feeder():
                with contextlib.suppress(BrokenPipeError):
                    with running.process.stdin as pipe:
                        pipe.write(stdin)
            threading.Thread(target=feeder, daemon=True).start()
        return running.wait(timeout)

    def sandbox(self, *args, **more):
        return self.run("sandbox", "run", *args, **more)

    def start_sandbox(self, *args, **more):
        return self.start("sandbox", "run", *args, **more)

    def pty(self, *args, rows=24, columns=80, timeout=20 * SLOWER):
        """Run smolvm on a terminal, as a pexpect object."""
        try:
            import pexpect
        except ImportError:
            raise Skip("python3-pexpect is not installed") from None
        try:
            for fd in os.openpty():
                os.close(fd)
        except OSError:
            raise Skip("no terminals can be made here (no /dev/pts)") from None
        child = pexpect.spawn(self.binary, list(args), env=self.environment({"TERM": "xterm"}),
                              cwd=self.tmp, dimensions=(rows, columns), timeout=timeout,
                              echo=True)
        self.undo.append(lambda: child.close(force=True))
        return child

    def processes(self, name=None):
        return sorted(pid for pid, comm in processes_of(self.home).items()
                      if name is None or name in comm)

    def hypervisors(self):
        """The processes in which this case's machines run, once there are any."""
        name = "smolvm-vmm" if BACKEND == "builtin" else BACKEND
        return wait_for(lambda: self.processes(name), "the machine", 20)

    def leaves_nothing(self, seconds=GONE_S):
        """No process and no file of a machine is left, now or very soon."""
        end = time.monotonic() + seconds
        while True:
            processes, files = processes_of(self.home), left_files(self.home)
            if not processes and not files:
                return
            if time.monotonic() > end:
                raise Failure("left behind: processes %s, files %s" % (processes, files))
            time.sleep(0.05)

    def finish(self):
        for call in reversed(self.undo):
            with contextlib.suppress(Exception):
                call()
        for running in self.started:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()
        for pid in processes_of(self.home):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.tmp, ignore_errors=True)


_unprivileged = None


def unprivileged_build():
    """Copies of the programs that every user can reach; their folder here may be private."""
    global _unprivileged
    if not _unprivileged:
        folder = tempfile.mkdtemp(prefix="smolvm-test-bin-")
        atexit.register(shutil.rmtree, folder, True)
        os.chmod(folder, 0o755)
        for name in ("smolvm", "smolvm-vmm", "vmlinux"):
            shutil.copy(os.path.join(BUILD, name), folder)
        _unprivileged = os.path.join(folder, "smolvm")
    return _unprivileged


# ---- cases -----------------------------------------------------------------------------------

_tests = []


def test(limit=60, name=None, backend=None):
    """Marks a function as a test case; its name is what is printed. backend: only for that one."""
    def add(function):
        if backend in (None, BACKEND):
            _tests.append((name or function.__name__.replace("_", " "), function, limit * SLOWER))
        return function
    return add


class TimeUp(BaseException):
    pass


def _alarm(number, frame):
    raise TimeUp()


def run_case(function, limit):
    """Returns None, or what went wrong; Skip passes through."""
    case = Case()
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(limit)
    try:
        function(case)
        if case.clean:
            case.leaves_nothing()
        return None
    except (Skip, KeyboardInterrupt):
        raise
    except Failure as e:
        where = traceback.extract_tb(e.__traceback__)
        line = [f.lineno for f in where if f.filename == function.__code__.co_filename]
        return "%s\n(line %s)" % (e, line[-1] if line else "?")
    except TimeUp:
        return "not finished after %d s\n%s" % (limit, traceback.format_exc(limit=-6))
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        case.finish()


def main():
    """Run the cases of the file and print TAP. Options: -k WORD, --list."""
    word = sys.argv[sys.argv.index("-k") + 1] if "-k" in sys.argv else ""
    chosen = [t for t in _tests if word in t[0] or word in os.path.basename(sys.argv[0])]
    if "--list" in sys.argv:
        for name, _, _ in chosen:
            print(name)
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda n, f: sys.exit(143))
    failed = 0
    print("1..%d" % len(chosen), flush=True)
    for number, (name, function, limit) in enumerate(chosen, 1):
        started = time.monotonic()
        try:
            problem = run_case(function, limit)
        except Skip as e:
            print("ok %d - %s # SKIP %s" % (number, name, e), flush=True)
            continue
        spent = time.monotonic() - started
        if problem is None:
            print("# %.1f s" % spent)
            print("ok %d - %s" % (number, name), flush=True)
            continue
        failed += 1
        print("not ok %d - %s" % (number, name))
        for line in problem.rstrip().splitlines():
            print("# " + line)
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
