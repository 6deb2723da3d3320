# SPDX-License-Identifier: Apache-2.0
"""Streams to the agent against one bare virtio-serial port, and commands against both."""

import os
import subprocess

import peers
from common import (Note, Row, Skip, end_process, environment, parse_numbers, say, show_rate,
                    show_seconds, sleeping_machine, started)

LIMIT_S = 120


def client(*args, fds=(), env=None):
    process = started(subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, pass_fds=fds, env=env))
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Skip("%s did not end" % os.path.basename(args[0])) from None
    finally:
        end_process(process)
    if process.returncode != 0:
        raise Skip((err.strip() or "%s failed" % args[0]).splitlines()[-1][:160])
    return out


def stream_rows(bench):
    """Both machines are up all the time; a round is a turn of each."""
    n, mib = (500, 16) if not bench.quick else (200, 4)
    jobs = {"rtt": "rtt:1:%d" % n, "rtt16": "rtt:16:%d" % (n // 4), "echo": "echo:1:%d" % mib,
            "echo16": "echo:16:%d" % mib, "discard": "discard:1:%d" % (2 * mib),
            "discard16": "discard:16:%d" % (2 * mib)}
    tool = peers.program("streamwork")
    ours, bare = ({job: [] for job in jobs} for _ in range(2))
    bench.machine()
    with sleeping_machine(bench.home) as (_, address), \
            peers.bare_port(bench.machine()) as (port, _):
        for i in bench.rounds(5, 2, 25, 2):
            say("streams: round %d" % (i + 1))
            texts = (client(tool, "smolvm", address, *jobs.values()),
                     client(tool, "port", str(port.fileno()), *jobs.values(),
                            fds=[port.fileno()]))
            for job, line in jobs.items():
                for text, into in zip(texts, (ours, bare)):
                    into[job].append(parse_numbers(text, line))

    def seconds(of, job, which):
        return [v[which] / 1e9 for v in of[job]]

    def rates(of, job):
        return [v[0] for v in of[job]]
    other = "bare virtio-serial port"
    bench.port_rtt = seconds(bare, "rtt", 0)
    yield Row("stream/rtt", "round trip of a byte, p50", other, seconds(ours, "rtt", 0),
              bench.port_rtt)
    yield Row("stream/rtt-p99", "the same, p99", other, seconds(ours, "rtt", 1),
              seconds(bare, "rtt", 1))
    yield Row("stream/rtt-16", "16 streams at once, p50", "16 bytes under way on a port",
              seconds(ours, "rtt16", 0), seconds(bare, "rtt16", 0))
    for job, text in (("echo", "there and back, 1 stream"), ("echo16", "there and back, 16"),
                      ("discard", "to the guest, 1 stream"), ("discard16", "to the guest, 16")):
        yield Row("stream/" + job, text, other, rates(ours, job), rates(bare, job),
                  show=show_rate)


def exec_rows(bench):
    """'true' in a machine that is up, through the library."""
    n = 200 if not bench.quick else 60
    p50, p99 = [], []
    for i in bench.rounds(3, 1, 10):
        say("exec: round %d" % (i + 1))
        values = parse_numbers(client(peers.program("execwork"), str(n), "true", env={
            **environment(bench.home), "SMOLVM_LIBEXEC": bench.build}), "exec")
        p50.append(values[0] / 1e9)
        p99.append(values[1] / 1e9)
    rtt = bench.port_rtt or list(port_rtt(bench))
    yield Row("exec/p50", "smolvm_exec of 'true', warm", "a byte's round trip, bare port", p50,
              (rtt * len(p50))[:len(p50)])
    yield Note("exec", "a command in a machine that is up", [
        ("p50", show_seconds(sorted(p50)[len(p50) // 2])),
        ("p99", show_seconds(sorted(p99)[len(p99) // 2]))])


def port_rtt(bench):
    with peers.bare_port(bench.machine()) as (port, _):
        yield parse_numbers(client(peers.program("streamwork"), "port", str(port.fileno()),
                                   "rtt:1:500", fds=[port.fileno()]), "rtt:1:500")[0] / 1e9
