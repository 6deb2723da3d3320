#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Command lines, right and wrong; nothing here boots a machine."""

import sys

sys.path.insert(0, __file__.rpartition("/cli/")[0] + "/boot")
from lib import *  # noqa: E402

COMMANDS = (("sandbox", "run"), ("image", "ls"), ("image", "rm"), ("image", "inspect"),
            ("image", "import"), ("doctor",), ("version",))


def refused(t, *args, words=()):
    """sandbox run with these is an error of its own: 125, one line, and nothing is made."""
    r = t.sandbox(*args, timeout=20).fails(125, *words)
    check(r.seconds < 5, "it took %.1f s" % r.seconds)
    check(not t.processes(), "something runs")
    return r


@test()
def version(t):
    r = t.run("version").gives()
    check(r.text().startswith("smolvm 0.1") or "0.1" in r.text(), r.describe())
    same(t.run("--version").gives().out, r.out, "smolvm --version")


@test()
def help_everywhere(t):
    r = t.run("--help").gives()
    for words in COMMANDS:
        check(words[0].encode() in r.out, "no %s in smolvm --help" % words[0])
        own = t.run(*words, "--help").gives(0, err=b"")
        check(own.out.lower().startswith(b"usage") or b"usage" in own.out.lower(), own.describe())
        same(t.run("help", *words).rc, 0, "exit code of smolvm help " + " ".join(words))
        check(max(map(len, own.out.decode().splitlines())) <= 100, "a line of help is long")
    for flag in ("-e", "--env-file", "-v", "-w", "-u", "--cpus", "--mem", "--storage", "--timeout",
                 "-i", "-t", "--name", "--hostname", "--entrypoint", "--read-only", "--kernel",
                 "--backend", "--quiet", "--verbose", "--timing"):
        check(flag in t.run("sandbox", "run", "--help").text(), "no %s in the help" % flag)


@test()
def help_does_not_need_a_home(t):
    t.home = "/proc/none"
    t.run("--help").gives()
    t.run("sandbox", "run", "--help").gives()
    t.run("version").gives()


@test()
def no_command_shows_the_help(t):
    r = t.run()
    check(r.rc != 0 and b"sandbox" in r.out + r.err, r.describe())


@test()
def unknown_commands_are_errors_with_a_hint(t):
    r = t.run("sandbx", "run")
    check(r.rc == 2 and b"sandbox" in r.err, r.describe())
    r = t.run("image", "lst")
    check(r.rc == 2 and b"ls" in r.err, r.describe())
    r = t.run("image")
    check(r.rc == 2 and b"import" in r.err + r.out, r.describe())


@test()
def unknown_options_are_errors_with_a_hint(t):
    refused(t, "--cpu", "2", "--", "true", words=("--cpu", "--cpus"))
    refused(t, "--no-such-thing", "--", "true", words=("--no-such-thing",))
    refused(t, "-Z", "--", "true", words=("-Z",))


@test()
def values_that_are_missing(t):
    refused(t, "--cpus", words=("--cpus",))
    refused(t, "-e", words=("-e",))


@test()
def cpus_out_of_range(t):
    for value in ("0", "99", "65", "-1", "two", "", "1.5", "4294967297", "9" * 40):
        refused(t, "--cpus=" + value, "--", "true", words=("cpus",))


@test()
def memory_out_of_range(t):
    for value in ("1", "0", "63", "-1", "lots", "", "1q", "9999t", "9" * 40):
        refused(t, "--mem=" + value, "--", "true", words=("mem",))


@test()
def storage_out_of_range(t):
    for value in ("0", "1m", "x", "-1g", "9" * 40):
        refused(t, "--storage=" + value, "--", "true", words=("storage",))


@test()
def timeouts_that_are_none(t):
    for value in ("0", "0s", "soon", "", "-1s", "10x", "9" * 40):
        refused(t, "--timeout=" + value, "--", "true", words=("timeout",))


@test()
def names_that_are_none(t):
    for value in ("", "-x", ".", "a/b", "a b", "ü", "x" * 64, "../up", "a\nb"):
        refused(t, "--name=" + value, "--", "true", words=("name",))
    for value in ("a b", "x" * 65, "a/b", "a\nb"):
        refused(t, "--hostname=" + value, "--", "true", words=("host",))


@test()
def environment_that_is_none(t):
    refused(t, "-e", "=x", "--", "true", words=("env",))
    refused(t, "-e", "", "--", "true", words=("env",))
    refused(t, "--env-file", t.path("missing"), "--", "true", words=("env-file", "missing"))
    refused(t, "--env-file", t.tmp, "--", "true", words=("env-file",))
    refused(t, "--env-file", t.write("bad", "A B=1\n"), "--", "true", words=("line 1",))
    refused(t, "--env-file", t.write("zero", b"A=1\0\n"), "--", "true", words=("env-file",))
    refused(t, "--env-file", t.write("big", b"A=" + b"x" * (32 << 20)), "--", "true",
            words=("env-file",))


@test()
def the_network_is_not_there_yet(t):
    refused(t, "-p", "8080:80", "--", "true", words=("network",))
    refused(t, "--net", "--", "true", words=("network",))


@test()
def backends_that_are_none(t):
    refused(t, "--backend", "no-such", "--", "true", words=("no-such", "qemu"))
    t.sandbox("--", "true", env={"SMOLVM_BACKEND": "no-such"}).fails(125, "no-such")


@test()
def kernels_that_are_none(t):
    refused(t, "--kernel", t.path("missing"), "--", "true", words=("kernel", "missing"))
    refused(t, "--kernel", t.tmp, "--", "true", words=("kernel",))
    refused(t, "--kernel", t.write("text", "no kernel\n"), "--", "true", words=("kernel",))
    refused(t, "--kernel", t.write("empty"), "--", "true", words=("kernel",))
    refused(t, "--kernel", "/dev/zero", "--", "true", words=("kernel",))
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    refused(t, "--kernel", fifo, "--", "true", words=("kernel",))
    # A program of this very host.
    refused(t, "--kernel", SMOLVM, "--", "true", words=("no kernel", "PVH"))


@test()
def volumes_that_are_none(t):
    import socket
    t.folder("d")
    refused(t, "-v", t.path("missing") + ":/data", "--", "true", words=("missing",))
    refused(t, "-v", t.path("d"), "--", "true", words=("volume",))
    refused(t, "-v", t.path("d") + ":relative", "--", "true", words=("relative",))
    refused(t, "-v", t.path("d") + ":", "--", "true", words=("volume",))
    refused(t, "-v", ":/data", "--", "true", words=("volume",))
    refused(t, "-v", "", "--", "true", words=("volume",))
    refused(t, "-v", t.path("d") + ":/data:wx", "--", "true", words=("wx",))
    refused(t, "-v", t.path("d") + ":/", "--", "true", words=("/",))
    refused(t, "-v", t.path("d") + ":/a/../b", "--", "true", words=("..",))
    os.symlink("nowhere", t.path("dangling"))
    refused(t, "-v", t.path("dangling") + ":/data", "--", "true", words=("dangling",))
    here = os.getcwd()
    os.chdir(t.tmp)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("sock")
    os.chdir(here)
    refused(t, "-v", t.path("sock") + ":/data", "--", "true", words=("sock",))
    refused(t, "-v", "/dev/null:/data", "--", "true", words=("/dev/null",))
    refused(t, *[x for i in range(200) for x in ("-v", "%s:/d%d" % (t.path("d"), i))],
            "--", "true", words=("more than",))


@test()
def users_and_folders_that_are_none(t):
    refused(t, "-w", "relative", "--", "true", words=("workdir",))


@test()
def images_that_are_none(t):
    refused(t, "no-such-image", "--", "true", words=("no-such-image",))
    refused(t, "./no-such-file.tar", "--", "true", words=("no-such-file",))
    refused(t, t.write("empty"), "--", "true")
    refused(t, "", "--", "true")


@test()
def a_word_that_was_meant_as_a_command_gets_a_hint(t):
    refused(t, "uname", words=("uname", "--"))


@test()
def a_terminal_is_needed_for_t(t):
    refused(t, "-t", "--", "true", words=("terminal",))


@test()
def an_image_and_input_cannot_both_be_standard_input(t):
    refused(t, "-i", "-", "--", "cat", words=("standard input",))


@test()
def output_that_cannot_be_written_is_an_error(t):
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full")
    for args in (("--help",), ("version",), ("image", "ls"), ("doctor", "--json")):
        with open("/dev/full", "wb") as full:
            r = subprocess.run([SMOLVM, *args], env=t.environment(), stdout=full,
                               stderr=subprocess.PIPE, timeout=20)
        check(r.returncode != 0, "%s: exit code 0" % (args,))


# Without a kernel, which these tests do not need, machines cannot run.
DOCTOR = 0 if os.path.exists(os.path.join(BUILD, "vmlinux")) else 1


@test()
def doctor(t):
    r = t.run("doctor").gives(DOCTOR, err=b"")
    for word in ("qemu", "kvm", "kernel"):
        check(word in r.text().lower(), "no %s in %s" % (word, r.describe()))


@test()
def doctor_as_json(t):
    found = json.loads(t.run("doctor", "--json").gives(DOCTOR).out)
    same(found["usable"], DOCTOR == 0, "whether machines can run")
    check(found["backend"] in ("", "qemu", "builtin"), found)
    names = {c["name"] for c in found["checks"]}
    check(any("kvm" in n for n in names) and "qemu" in names, names)
    for c in found["checks"]:
        check(c["text"] and c["name"], c)


@test()
def doctor_of_one_backend(t):
    t.run("doctor", "--backend", "qemu").gives(DOCTOR)
    r = t.run("doctor", "--backend", "no-such")
    check(r.rc != 0 and b"no-such" in r.err, r.describe())


@test()
def doctor_strict(t):
    usable = json.loads(t.run("doctor", "--json").gives(DOCTOR).out)["usable"]
    r = t.run("doctor", "--strict", env={"PATH": "/nonexistent"})
    check(not usable or r.rc in (0, 1), r.describe())


@test()
def doctor_misses_the_other_program_and_the_kernel(t):
    alone = {"SMOLVM_LIBEXEC": "/nonexistent"}
    r = t.run("doctor", env=alone).gives(1, err=b"")
    for words in ("smolvm-vmm", "vmlinux", "cannot run"):
        check(words in r.text(), "no %s in %s" % (words, r.describe()))
    found = json.loads(t.run("doctor", "--json", env=alone).gives(1).out)
    check(found["usable"] is False, found)


@test()
def doctor_changes_nothing(t):
    t.run("doctor").gives(DOCTOR)
    check(not os.path.exists(t.home), "it made %s" % os.listdir(t.tmp))


@test()
def the_manual_page(t):
    need_tool("mandoc")
    pages = [os.path.join(d, f) for d, _, files in os.walk(BUILD) for f in files
             if f.endswith(".1")]
    check(pages, "no manual page in %s" % BUILD)
    for page in pages:
        r = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check(r.returncode == 0, "%s: %s" % (page, r.stdout[:1000]))


@test()
def shell_completion(t):
    for shell in ("bash", "zsh", "fish"):
        r = t.run("completion", shell).gives()
        check(b"sandbox" in r.out, r.describe())
        if shutil.which(shell):
            name = t.write("completion." + shell, r.out)
            checked = subprocess.run([shell, "-n", name], stderr=subprocess.PIPE)
            check(checked.returncode == 0, "%s: %s" % (shell, checked.stderr[:500]))


main()
