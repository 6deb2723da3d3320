# SPDX-License-Identifier: Apache-2.0
"""What the rows of the bench share: places, processes, timing, and rows themselves."""

import atexit
import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(BENCH))
BUILD = os.path.join(ROOT, os.environ.get("SMOLVM_BUILD", "build"))
SMOLVM = os.path.join(BUILD, "smolvm")
CACHE = "/tmp" if os.environ.get("SMOLVM_LAB") else os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "smolvm", "bench")
RUN_LIMIT_S = 300


class Skip(Exception):
    """This row cannot be measured here; the text says why."""


# ---- places and processes --------------------------------------------------------------------

_processes = []
_temp = []


def temp_folder(name=None):
    """The bench's scratch folder, removed at its end, or a new folder in it."""
    if not _temp:
        os.makedirs(CACHE, exist_ok=True)
        _temp.append(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    return tempfile.mkdtemp(prefix=name + "-", dir=_temp[0]) if name else _temp[0]


def started(process):
    """Remembers a process, to be ended in any case."""
    _processes.append(process)
    return process


def end_process(process, number=signal.SIGKILL):
    if process.poll() is None:
        process.send_signal(number)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()
    if process in _processes:
        _processes.remove(process)


@atexit.register
def clean_up():
    for process in list(_processes):
        with contextlib.suppress(Exception):
            end_process(process)
    for folder in _temp:
        shutil.rmtree(folder, ignore_errors=True)


def need_tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skip("%s is not installed" % name)
    return path


def say(text):
    """Progress, where a person looks."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


# ---- timing ----------------------------------------------------------------------------------

class Took:
    """How a command went: seconds, CPU seconds, peak in MiB, exit code, what it wrote."""

    def __init__(self, seconds, cpu_s, peak_mib, rc, out, err):
        self.seconds, self.cpu_s, self.peak_mib, self.rc = seconds, cpu_s, peak_mib, rc
        self.out, self.err = out, err


def take_time(command, env=None, cwd=None, wanted=(0,)):
    """Run a command to its end; Skip with its last words when it fails."""
    from peers import program
    report, write_end = os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = started(subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3>&%d' % write_end, "sh", program("runstat"), *command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd,
            pass_fds=[write_end]))
        os.close(write_end)
        try:
            process.wait(RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Skip("%s did not end" % os.path.basename(command[0])) from None
        finally:
            end_process(process)
        fields = os.read(report, 256).split()
        os.close(report)
        texts = []
        for f in (out, err):
            f.seek(0)
            texts.append(f.read().decode("utf-8", "replace"))
    if len(fields) != 4:
        raise Skip("%s cannot be started" % command[0])
    wall, cpu, peak, rc = (int(f) for f in fields)
    if wanted is not None and rc not in wanted:
        words = (texts[1].strip() or texts[0].strip() or "no reason given").splitlines()[-1]
        raise Skip("%s failed (%d): %s" % (os.path.basename(command[0]), rc, words[:160]))
    return Took(wall / 1e9, cpu / 1e9, peak / 1024, rc, texts[0], texts[1])


def environment(home):
    """A state folder of the bench's own; what runs is kept where names are short."""
    if len(_temp) < 2:
        temp_folder()
        _temp.append(tempfile.mkdtemp(prefix="smolvm-bench-", dir="/tmp"))
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("SMOLVM_") and k not in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR")}
    env["SMOLVM_HOME"], env["XDG_RUNTIME_DIR"] = home, _temp[1]
    return env


def smolvm(*args, home, **more):
    if not os.access(SMOLVM, os.X_OK):
        raise Skip("%s is not built" % SMOLVM)
    return take_time([SMOLVM, *args], env=environment(home), **more)


def children_of(pid):
    """pid -> name, of a process and all of its descendants."""
    parents, names = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open("/proc/%s/stat" % entry, "rb") as f:
                head, _, rest = f.read().rpartition(b") ")
                parents[int(entry)] = int(rest.split()[1])
                names[int(entry)] = head.split(b"(", 1)[1].decode("utf-8", "replace")
    found = {pid: names.get(pid, "?")}
    grown = True
    while grown:
        more = {p: names[p] for p, parent in parents.items() if parent in found and p not in found}
        found.update(more)
        grown = bool(more)
    return found


def socket_of(name):
    """The path of a machine's socket; where it lies depends on the length of the folder's name."""
    with open("/proc/net/unix") as f:
        for line in f:
            if line.rstrip().endswith("/%s/vm.sock" % name):
                return line.split(None, 7)[7].strip()
    raise Skip("the machine %s has no socket" % name)


@contextlib.contextmanager
def sleeping_machine(home, *options):
    """A machine of ours in which nothing happens; yields (processes, its socket's path)."""
    if not os.access(SMOLVM, os.X_OK):
        raise Skip("%s is not built" % SMOLVM)
    name = "bench-%d" % os.getpid()
    process = started(subprocess.Popen(
        [SMOLVM, "sandbox", "run", "--name", name, *options, "--", "sh", "-c",
         "echo ready; exec sleep 3600"], env=environment(home), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        if "ready" not in process.stdout.readline():
            raise Skip("smolvm failed: %s" % process.stderr.read().strip()[-160:])
        yield children_of(process.pid), socket_of(name)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        end_process(process)


# ---- rows ------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def show_seconds(value):
    if value < 0.001:
        return "%.0f us" % (value * 1e6)
    if value < 1:
        return "%.*f ms" % (1 if value < 0.1 else 0, value * 1e3)
    return "%.2f s" % value


def show_rate(value):
    return "%.*f MB/s" % (1 if value < 10 else 0, value / 1e6)


def show_mib(value):
    return "%.1f MiB" % value


class Row:
    """One comparison. ours, other: one value a round, in the same order; more is worse, apart from
    rates, whose ratio is the other way round so that below one is always better."""

    def __init__(self, name, what, other_name, ours, other, aim=None, show=show_seconds):
        self.name, self.what, self.other_name = name, what, other_name
        self.ours, self.other, self.aim, self.show = ours, other, aim, show
        self.rate = show is show_rate

    def ratios(self):
        return [(b / a if self.rate else a / b) for a, b in zip(self.ours, self.other)]

    def ratio(self):
        if not self.ours or not self.other:
            return None
        a, b = median(self.ours), median(self.other)
        return b / a if self.rate else a / b

    def met(self):
        return None if self.aim is None or self.ratio() is None else self.ratio() <= self.aim

    def cells(self):
        ratios = self.ratios()
        return [self.name, self.what, self.show(median(self.ours)) if self.ours else "-",
                self.show(median(self.other)) if self.other else "-", self.other_name,
                "%.2f" % self.ratio() if ratios else "-",
                "%.2f-%.2f" % (min(ratios), max(ratios)) if len(ratios) > 1 else "-",
                "<= %.2f" % self.aim if self.aim is not None else "-",
                {True: "yes", False: "NO", None: "-"}[self.met()]]

    def json(self):
        ratios = self.ratios()
        return {"name": self.name, "what": self.what, "against": self.other_name,
                "ours": self.ours, "other": self.other, "ratio": self.ratio(),
                "ratio_min": min(ratios, default=None), "ratio_max": max(ratios, default=None),
                "aim": self.aim, "met": self.met(),
                "unit": {show_seconds: "s", show_rate: "bytes/s", show_mib: "MiB"}.get(self.show)}


class Skipped:
    def __init__(self, name, why):
        self.name, self.why = name, str(why)

    def json(self):
        return {"name": self.name, "skipped": self.why}


class Note:
    """Figures that are compared with nothing: a title and lines of (what, value)."""

    def __init__(self, name, title, lines):
        self.name, self.title, self.lines = name, title, lines

    def json(self):
        return {"name": self.name, "title": self.title, "lines": self.lines}


def parse_numbers(text, name):
    """The numbers of the line that begins with a name."""
    found = re.search(r"^%s((?: [0-9.]+)+)\s*$" % re.escape(name), text.replace("\r", ""), re.M)
    if not found:
        raise Skip("no %s in what the guest said: %s" % (name, text.strip()[-160:] or "nothing"))
    return [float(n) for n in found.group(1).split()]
