#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run: standard input, output and error."""

from lib import *
from lib import peak_kib

MIB = 1 << 20
# What our own processes may take, whatever passes through them.
PEAK_KIB = 64 * 1024
BIG_MIB = int(os.environ.get("SMOLVM_TEST_BIG_MIB", "64"))


@test()
def output_and_error_stay_apart(t):
    t.sandbox("--", "sh", "-c", "echo out; echo err >&2; echo out2").gives(
        0, b"out\nout2\n", b"err\n")


@test()
def bytes_come_back_as_they_went_in(t):
    data = random.Random(1).randbytes(MIB)
    t.sandbox("-i", "--", "cat", stdin=data).gives(0, data, b"")


@test()
def a_megabyte_on_each_output_is_exact(t):
    first, second = random.Random(2).randbytes(MIB), random.Random(3).randbytes(MIB)
    t.folder("in")
    t.write("in/a", first)
    t.write("in/b", second)
    t.sandbox("-v", t.path("in") + ":/in:ro", "--", "sh", "-c",
              "cat /in/a & cat /in/b >&2; wait").gives(0, first, second)


@test()
def every_byte_value_passes(t):
    data = bytes(range(256)) * 3
    t.sandbox("-i", "--", "cat", stdin=data).gives(0, data)


@test()
def input_is_empty_without_i(t):
    t.sandbox("--", "cat", stdin=b"not for you").gives(0, b"")


@test()
def input_ends(t):
    t.sandbox("-i", "--", "wc", "-c", stdin=b"12345").gives(0, b"5\n")
    t.sandbox("-i", "--", "cat", stdin=b"").gives(0, b"")


@test()
def input_from_a_file_and_from_dev_null(t):
    with open(t.write("data", "from a file\n"), "rb") as f:
        t.sandbox("-i", "--", "cat", stdin=f).gives(0, b"from a file\n")
    t.sandbox("-i", "--", "cat", stdin=subprocess.DEVNULL).gives(0, b"")


@test()
def a_command_need_not_read_its_input(t):
    t.sandbox("-i", "--", "true", stdin=b"x" * MIB).gives(0, b"")
    t.sandbox("-i", "--", "head", "-c", "3", stdin=b"abc" * MIB).gives(0, b"abc")


@test()
def the_end_does_not_wait_for_input(t):
    running = t.start_sandbox("-i", "--", "sh", "-c", "read x; echo got $x", stdin=subprocess.PIPE)
    running.process.stdin.write(b"one line\n")
    running.process.stdin.flush()
    running.wait(25).gives(0, b"got one line\n")


@test()
def a_dialogue_over_pipes(t):
    running = t.start_sandbox("-i", "--", "sh", "-c",
                              'while read x; do echo "<$x>"; done; echo end', stdin=subprocess.PIPE)
    for i in range(50):
        running.process.stdin.write(b"%d\n" % i)
        running.process.stdin.flush()
        running.says(b"<%d>" % i)
    running.process.stdin.close()
    r = running.wait()
    check(r.rc == 0 and r.out.endswith(b"<49>\nend\n"), r.describe())


@test(limit=240)
def input_streams_with_bounded_memory(t):
    size = BIG_MIB * MIB
    running = t.start_sandbox("-i", "--", "sh", "-c",
                              "head -c %d | md5sum; sleep 1000" % size, stdin=subprocess.PIPE)
    import hashlib
    md5, chunk = hashlib.md5(), random.Random(4).randbytes(MIB)
    for i in range(BIG_MIB):
        data = chunk[i % 100:] + chunk[:i % 100]
        md5.update(data)
        running.process.stdin.write(data)
    running.process.stdin.flush()
    running.says(md5.hexdigest().encode(), 120)
    ours = t.processes("smolvm")
    check(running.pid in ours and len(ours) >= 2, "processes: %s" % processes_of(t.home))
    peaks = {pid: peak_kib(pid) for pid in ours}
    check(max(peaks.values()) < PEAK_KIB, "peak memory in KiB: %s" % peaks)
    running.send(signal.SIGKILL)


@test(limit=240)
def output_streams_with_bounded_memory(t):
    running = subprocess.Popen(
        [SMOLVM, "sandbox", "run", "--", "sh", "-c",
         "head -c %d /dev/zero; sleep 1000" % (BIG_MIB * MIB)], env=t.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=t.tmp)
    t.undo.append(running.kill)
    left = BIG_MIB * MIB
    while left:
        data = running.stdout.read1(MIB)
        check(data, "the output ended %d bytes early" % left)
        check(not data.strip(b"\0"), "bytes that nobody wrote")
        left -= len(data)
    peaks = {pid: peak_kib(pid) for pid in t.processes("smolvm")}
    check(peaks and max(peaks.values()) < PEAK_KIB, "peak memory in KiB: %s" % peaks)
    running.kill()
    running.wait()


@test(limit=90)
def a_reader_that_waits_costs_no_memory_and_blocks_nothing_else(t):
    out, out_write = os.pipe()
    running = subprocess.Popen(
        [SMOLVM, "sandbox", "run", "--", "sh", "-c",
         "yes & sleep 1; for i in 1 2 3 4 5; do echo tick $i >&2; done; wait"],
        env=t.environment(), stdin=subprocess.DEVNULL, stdout=out_write, stderr=subprocess.PIPE)
    os.close(out_write)
    t.undo.append(running.kill)
    # Nobody reads standard output, yet standard error arrives.
    text = b""
    while b"tick 5" not in text:
        data = os.read(running.stderr.fileno(), 1000)
        check(data, "standard error ended: %r" % text)
        text += data
    peaks = {pid: peak_kib(pid) for pid in t.processes("smolvm")}
    check(peaks and max(peaks.values()) < PEAK_KIB, "peak memory in KiB: %s" % peaks)
    same(os.read(out, 4), b"y\ny\n", "standard output")
    running.kill()
    running.wait()
    os.close(out)


@test()
def a_reader_that_goes_away_ends_the_command(t):
    started = time.monotonic()
    r = subprocess.run(["sh", "-c", '"$0" sandbox run -- yes | head -n 2', SMOLVM],
                       env=t.environment(), stdout=subprocess.PIPE, timeout=40)
    same(r.stdout, b"y\ny\n", "output")
    check(time.monotonic() - started < 20, "it took %.0f s" % (time.monotonic() - started))
    t.leaves_nothing()


@test()
def output_to_a_full_device_is_an_error(t):
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full")
    with open("/dev/full", "wb") as full:
        r = subprocess.run([SMOLVM, "sandbox", "run", "--", "echo", "x"], env=t.environment(),
                           stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                           timeout=40)
    check(r.returncode != 0, "exit code 0 although nothing could be written")
    check(b"o space left" in r.stderr, "stderr: %r" % r.stderr)


@test()
def closed_descriptors_are_no_trouble(t):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        r = subprocess.run(["sh", "-c", '"$0" sandbox run -i -- sh -c "exit 5" ' + closed, SMOLVM],
                           env=t.environment(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=40)
        check(r.returncode == 5, "with %s: exit code %d" % (closed, r.returncode))


@test()
def one_file_for_both_outputs_keeps_their_order(t):
    with open(t.path("both"), "wb") as both:
        subprocess.run([SMOLVM, "sandbox", "run", "--", "sh", "-c",
                        "echo 1; sleep 0.3; echo 2 >&2; sleep 0.3; echo 3"], env=t.environment(),
                       stdin=subprocess.DEVNULL, stdout=both, stderr=both, timeout=40)
    with open(t.path("both"), "rb") as f:
        same(f.read(), b"1\n2\n3\n", "what is in the file")


@test()
def many_small_writes_arrive_in_order(t):
    r = t.sandbox("--", "sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done")
    r.gives(0, "".join("%d\n" % i for i in range(2000)).encode())


@test()
def output_of_the_last_moment_is_not_lost(t):
    for _ in range(3):
        t.sandbox("--", "sh", "-c", "head -c 300000 /dev/zero; echo end >&2; exit 7").gives(
            7, b"\0" * 300000, b"end\n")


@test()
def the_descriptors_of_the_caller_stay_as_they_were(t):
    import fcntl
    read_end, write_end = os.pipe()
    before = fcntl.fcntl(read_end, fcntl.F_GETFL)
    os.write(write_end, b"x\n")
    os.close(write_end)
    out_read, out_write = os.pipe()
    out_before = fcntl.fcntl(out_write, fcntl.F_GETFL)
    subprocess.run([SMOLVM, "sandbox", "run", "-i", "--", "cat"], env=t.environment(),
                   stdin=read_end, stdout=out_write, timeout=40, check=True)
    same(fcntl.fcntl(read_end, fcntl.F_GETFL), before, "flags of standard input")
    same(fcntl.fcntl(out_write, fcntl.F_GETFL), out_before, "flags of standard output")
    same(os.read(out_read, 10), b"x\n", "output")


main()
