#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run -t: a terminal, as in ssh."""

import termios

from lib import *

try:
    import pexpect
except ImportError:
    pexpect = None

RUN = ("sandbox", "run", "-it", "--")
PROMPT = "GUEST> "


def ended(child, code=None, seconds=20):
    """Wait for the end; the exit code."""
    child.expect(pexpect.EOF, timeout=seconds)
    child.wait()
    if code is not None:
        same((child.exitstatus, child.signalstatus), (code, None),
             "exit code after %r" % child.before[-500:])
    return child.exitstatus


def shell(t, **more):
    child = t.pty("sandbox", "run", "-it", "-e", "PS1=" + PROMPT, "--", "sh", **more)
    child.expect_exact(PROMPT)
    return child


@test()
def a_command_sees_a_terminal(t):
    child = t.pty(*RUN, "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && tty && echo TERM=$TERM")
    child.expect("/dev/(pts|console|tty)")
    child.expect("TERM=xterm")
    ended(child, 0)


@test()
def there_is_none_without_t(t):
    child = t.pty("sandbox", "run", "--", "sh", "-c", "test -t 1 || echo no terminal")
    child.expect("no terminal")
    ended(child, 0)


@test()
def it_has_the_size_of_ours(t):
    child = t.pty(*RUN, "stty", "size", rows=37, columns=113)
    child.expect_exact("37 113")
    ended(child, 0)


@test()
def a_new_size_arrives(t):
    child = t.pty(*RUN, "sh", "-c", "trap 'echo changed to $(stty size)' WINCH; stty size; "
                  "echo up; while :; do sleep 0.1; done")
    child.expect_exact("24 80")
    child.expect_exact("up")
    child.setwinsize(50, 132)
    child.expect_exact("changed to 50 132")
    child.sendintr()
    ended(child, 130)


@test()
def an_exit_code_passes(t):
    child = shell(t)
    child.sendline("exit 7")
    ended(child, 7)


@test()
def end_of_input_ends_a_shell(t):
    child = shell(t)
    child.sendeof()
    ended(child, 0)


@test()
def control_c_interrupts_the_command_and_not_the_shell(t):
    child = shell(t)
    child.sendline("sleep 1000")
    time.sleep(0.5)
    child.sendintr()
    child.expect_exact(PROMPT, timeout=10)
    child.sendline("echo rc=$?")
    child.expect_exact("rc=130")
    child.sendline("exit 0")
    ended(child, 0)


@test()
def control_c_ends_a_lone_command(t):
    child = t.pty(*RUN, "sh", "-c", "echo up; sleep 1000")
    child.expect_exact("up")
    child.sendintr()
    ended(child, 130)


@test()
def control_backslash_is_sigquit(t):
    child = t.pty(*RUN, "sh", "-c",
                  "trap 'echo quit; exit 4' QUIT; echo up; while :; do sleep 0.1; done")
    child.expect_exact("up")
    child.send("\x1c")
    child.expect_exact("quit")
    ended(child, 4)


@test()
def job_control_works_in_a_shell(t):
    child = shell(t)
    child.sendline("sleep 1000")
    time.sleep(0.5)
    child.sendcontrol("z")
    child.expect("Stopped")
    child.expect_exact(PROMPT)
    child.sendline("jobs; bg; echo still here")
    child.expect("still here\r")
    child.expect_exact(PROMPT)
    child.sendline("fg")
    child.expect("sleep 1000")
    time.sleep(0.5)
    child.sendintr()
    child.expect_exact(PROMPT)
    child.sendline("exit 0")
    ended(child, 0)


@test()
def no_shell_complains_of_job_control(t):
    child = shell(t)
    check(b"job control" not in child.before and b"can't access tty" not in child.before,
          "the shell said %r" % child.before)
    child.sendline("exit 0")
    ended(child, 0)


@test()
def our_terminal_is_raw_meanwhile_and_as_before_afterwards(t):
    child = t.pty(*RUN, "sh", "-c", "echo up; read x; echo got $x")
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact("up")
    check(not termios.tcgetattr(child.child_fd)[3] & (termios.ICANON | termios.ECHO), "not raw")
    child.sendline("line")
    child.expect_exact("got line")
    after = wait_for(lambda: termios.tcgetattr(child.child_fd)[3] & termios.ICANON and
                     termios.tcgetattr(child.child_fd), "the terminal to be restored")
    same(after, before, "terminal settings")
    ended(child, 0)


@test()
def our_terminal_is_restored_when_the_machine_dies(t):
    child = t.pty(*RUN, "sh", "-c", "echo up; sleep 1000")
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact("up")
    for pid in t.hypervisors():
        os.kill(pid, signal.SIGKILL)
    after = wait_for(lambda: termios.tcgetattr(child.child_fd)[3] & termios.ICANON and
                     termios.tcgetattr(child.child_fd), "the terminal to be restored")
    same(after, before, "terminal settings")
    ended(child, 125)


@test()
def our_terminal_is_restored_after_sigterm(t):
    child = t.pty(*RUN, "sh", "-c", "echo up; sleep 1000")
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact("up")
    child.kill(signal.SIGTERM)
    after = wait_for(lambda: termios.tcgetattr(child.child_fd)[3] & termios.ICANON and
                     termios.tcgetattr(child.child_fd), "the terminal to be restored")
    same(after, before, "terminal settings")
    same(ended(child), 143, "exit code")


@test()
def a_hang_up_ends_it(t):
    child = t.pty(*RUN, "sh", "-c", "echo up; sleep 1000")
    child.expect_exact("up")
    child.close(force=False)
    t.leaves_nothing()


@test()
def t_without_a_terminal_is_an_error(t):
    t.sandbox("-it", "--", "true").fails(125, "terminal")


@test()
def special_keys_and_wide_characters_pass(t):
    child = t.pty(*RUN, "sh", "-c", "stty raw -echo; echo up; head -c 9 | od -An -tx1; stty sane")
    child.expect_exact("up")
    child.send(b"\x03\x04\x1b[A\xc3\xbc\x00\xff")
    child.expect_exact("03 04 1b 5b 41 c3 bc 00 ff")
    ended(child, 0)


@test()
def much_output_passes(t):
    child = t.pty(*RUN, "sh", "-c", "seq 1 5000; echo the end", timeout=30)
    text = b""
    while b"the end" not in text:
        text += child.read_nonblocking(65536, timeout=20)
    lines = text.decode().replace("\r", "").split("\n")
    same(lines[:5000], [str(i) for i in range(1, 5001)], "lines")
    ended(child, 0)


@test()
def pasting_much_text_passes(t):
    child = t.pty(*RUN, "sh", "-c", "stty -echo; echo up; wc -c")
    child.expect_exact("up")
    for i in range(200):
        child.send("%09d\n" % i)
    child.sendeof()
    child.expect_exact("2000")
    ended(child, 0)


main()
