#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run: however it ends, nothing is left behind."""

from lib import *

# Seconds after the start at which somebody is killed: parsing, importing, booting, running.
STAGES = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
FOREVER = ("--", "sh", "-c", "echo up; sleep 1000")
LOOP = "echo up; while :; do sleep 0.1; done"


# ---- signals ---------------------------------------------------------------------------------

@test()
def sigterm_and_sigint_reach_the_command(t):
    for number, name in ((signal.SIGTERM, "TERM"), (signal.SIGINT, "INT")):
        running = t.start_sandbox("--", "sh", "-c", "trap 'echo got %s; exit 33' %s; %s" % (
            name, name, LOOP))
        running.says(b"up\n")
        running.send(number)
        running.wait(20).gives(33, b"up\ngot %s\n" % name.encode())


@test()
def a_command_that_does_not_catch_them_ends(t):
    for number in (signal.SIGTERM, signal.SIGINT):
        running = t.start_sandbox("--", "sleep", "1000")
        t.hypervisors()
        time.sleep(2)
        running.send(number)
        running.wait(20).gives(128 + number, b"")
        t.leaves_nothing()


@test()
def a_second_signal_ends_the_machine(t):
    for number in (signal.SIGTERM, signal.SIGINT):
        running = t.start_sandbox("--", "sh", "-c", "trap '' TERM INT; " + LOOP)
        running.says(b"up\n")
        running.send(number)
        time.sleep(0.5)
        check(running.process.poll() is None, "the first one ended it")
        running.send(number)
        r = running.wait(10)
        same(r.rc, 128 + number, "exit code")
        t.leaves_nothing()


@test()
def sighup_ends_it(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    running.send(signal.SIGHUP)
    running.wait(20).gives(129)


@test(limit=120)
def sigint_at_any_time_while_it_starts(t):
    for delay in (0.02, 0.1, 0.3, 0.6):
        running = t.start_sandbox("--", "sleep", "1000")
        time.sleep(delay)
        running.send(signal.SIGINT)
        r = running.wait(20)
        check(r.rc in (130, -2), r.describe())
        t.leaves_nothing()


@test()
def other_signals_do_no_harm(t):
    running = t.start_sandbox("--", "sh", "-c", "echo up; sleep 1; echo end")
    running.says(b"up\n")
    for number in (signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT):
        running.send(number)
    running.wait().gives(0, b"up\nend\n")


@test()
def it_can_be_stopped_and_go_on(t):
    running = t.start_sandbox("--", "sh", "-c", "echo up; sleep 1; echo end")
    running.says(b"up\n")
    running.send(signal.SIGSTOP)
    time.sleep(2)
    running.send(signal.SIGCONT)
    running.wait().gives(0, b"up\nend\n")


# ---- sudden ends -----------------------------------------------------------------------------

@test(limit=200)
def the_client_is_killed_at_every_stage(t):
    for delay in STAGES:
        running = t.start_sandbox(*FOREVER)
        time.sleep(delay)
        running.send(signal.SIGKILL)
        running.wait()
        t.clean = False
        wait_for(lambda: not processes_of(t.home), "the end of %s, %s s after the start" % (
            processes_of(t.home), delay), 8)
    # What only a file could be is removed by whoever comes next.
    t.clean = True
    t.sandbox("--", "echo", "still fine").gives(0, b"still fine\n")


@test(limit=200)
def the_client_is_killed_while_data_passes(t):
    for _ in range(3):
        running = subprocess.Popen(["sh", "-c", '"$0" sandbox run -i -- cat </dev/zero >/dev/null &'
                                    ' echo $!; wait', SMOLVM], env=t.environment(),
                                   stdout=subprocess.PIPE)
        pid = int(running.stdout.readline())
        t.hypervisors()
        time.sleep(2)
        os.kill(pid, signal.SIGKILL)
        running.wait(10)
        t.leaves_nothing()


@test()
def the_machine_process_is_killed(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    for pid in t.processes("smolvm-vmm"):
        os.kill(pid, signal.SIGKILL)
    r = running.wait(15)
    r.fails(125, "machine")
    t.leaves_nothing()


@test()
def the_machine_process_is_asked_to_end(t):
    # The threads that serve shared folders leave the signal to the one that clears up.
    os.mkdir(t.path("shared"))
    running = t.start_sandbox("-v", t.path("shared") + ":/shared", *FOREVER)
    running.says(b"up\n")
    for pid in t.processes("smolvm-vmm"):
        os.kill(pid, signal.SIGTERM)
    running.wait(15).fails(125, "ended by signal 15")
    t.leaves_nothing()


@test()
def the_hypervisor_is_killed(t):
    running = t.start_sandbox(*FOREVER)
    running.says(b"up\n")
    for pid in t.hypervisors():
        os.kill(pid, signal.SIGKILL)
    r = running.wait(15)
    r.fails(125, "machine")
    t.leaves_nothing()


@test(limit=200)
def the_machine_process_is_killed_at_every_stage(t):
    for name in ("smolvm-vmm", "qemu") if BACKEND == "qemu" else ("smolvm-vmm",):
        for delay in (0.0, 0.1, 0.4, 1.0):
            running = t.start_sandbox(*FOREVER)
            pids = wait_for(lambda: t.processes(name) or running.process.poll() is not None, name)
            time.sleep(delay)
            for pid in pids if isinstance(pids, list) else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            r = running.wait(20)
            check(r.rc == 125 and r.err, r.describe())
            t.leaves_nothing()


@test()
def the_guest_powers_off(t):
    running = t.start_sandbox("--", "sh", "-c", "echo up; poweroff -f; sleep 1000")
    r = running.wait(30)
    check(r.rc != 0, r.describe())
    t.leaves_nothing()


@test()
def the_command_kills_everything_in_the_guest(t):
    r = t.sandbox("--", "sh", "-c", "kill -9 -1; sleep 1; echo alive", timeout=30)
    check(r.rc != 124, r.describe())


@test()
def the_guest_runs_out_of_processes(t):
    r = t.sandbox("--mem", "128m", "--timeout", "20s", "--", "sh", "-c",
                  "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; echo made $i",
                  timeout=50)
    check(r.rc in (0, 124, 125, 137, 2), r.describe())


# ---- several at once -------------------------------------------------------------------------

@test(limit=200)
def ten_at_once(t):
    running = [t.start_sandbox("--", "sh", "-c", "echo %d; cat /proc/sys/kernel/hostname" % i)
               for i in range(10)]
    names = set()
    for i, r in enumerate(running):
        out = r.wait(150).gives().out.split(b"\n")
        same(out[0], b"%d" % i, "output")
        names.add(out[1])
    same(len(names), 10, "different names")


@test(limit=120)
def ten_first_imports_at_once(t):
    import images
    path = images.docker_archive(t.path("i.tar"), [images.busybox_layer()], {"Cmd": ["true"]})
    running = [t.start("image", "import", path) for i in range(10)]
    for r in running:
        r.wait(60).gives()
    same(len(json.loads(t.run("image", "ls", "--json").out)), 1, "images")


@test(limit=120)
def others_do_not_notice_when_one_is_killed(t):
    first = t.start_sandbox("--", "sh", "-c", "echo up; sleep 1000")
    second = t.start_sandbox("--", "sh", "-c", "echo up; sleep 4; echo fine")
    first.says(b"up\n", 40)
    second.says(b"up\n", 40)
    first.send(signal.SIGKILL)
    third = t.start_sandbox("--", "echo", "third")
    third.wait().gives(0, b"third\n")
    second.wait().gives(0, b"up\nfine\n")


@test()
def children_do_not_hold_our_pipes(t):
    """A pipe that the caller gave ends when the command has ended."""
    r, w = os.pipe()
    running = t.start_sandbox("--", "true", pass_fds=(w,))
    os.close(w)
    running.wait().gives()
    os.set_blocking(r, False)
    wait_for(lambda: os.read(r, 1) == b"", "the end of the pipe", 5)
    os.close(r)


main()
