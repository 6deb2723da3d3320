#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox run on hosts that lack something: rights, disk space, programs."""

from lib import *


def in_namespace(t, script, *args, **more):
    """Run smolvm in a mount namespace of its own, in which a shell script changes things first."""
    need_root()
    need_tool("unshare")
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        raise Skip("no mount namespaces here") from None
    return t.run(*args, prefix=("unshare", "-m", "--propagation", "private", "sh", "-ec",
                                script + '\nexec "$@"', "sh"), **more)


@test()
def without_any_rights(t):
    t.become_nobody()
    r = t.sandbox("--", "sh", "-c", "id -u; echo x >/etc/x && cat /etc/x")
    r.gives(0, b"0\nx\n", b"")


@test()
def without_a_home(t):
    t.become_nobody()
    r = t.sandbox("--", "echo", "x", env={"HOME": None, "XDG_RUNTIME_DIR": None})
    r.gives(0, b"x\n")


@test()
def a_long_state_folder(t):
    t.home = t.path("deep-" + "x" * 90, "deeper-" + "y" * 90)
    t.sandbox("--", "echo", "x").gives(0, b"x\n")


@test()
def a_state_folder_with_an_odd_name(t):
    for name in ("with space", "comma,and=equals", "ünï", "per%cent", "quote'\"s"):
        t.home = t.path(name)
        t.sandbox("--", "echo", "x").gives(0, b"x\n")
        t.leaves_nothing()


@test()
def state_in_its_default_place(t):
    env = {"SMOLVM_HOME": None, "HOME": t.folder("me"), "XDG_DATA_HOME": None,
           "XDG_RUNTIME_DIR": t.folder("runtime")}
    t.sandbox("--", "echo", "x", env=env).gives(0, b"x\n")
    check(os.path.isdir(t.path("me/.local/share/smolvm")), "no ~/.local/share/smolvm")
    same(stat.S_IMODE(os.stat(t.path("me/.local/share/smolvm")).st_mode), 0o700, "its mode")
    env["XDG_DATA_HOME"] = t.folder("data")
    t.sandbox("--", "echo", "x", env=env).gives(0, b"x\n")
    check(os.path.isdir(t.path("data/smolvm")), "no $XDG_DATA_HOME/smolvm")


@test()
def a_read_only_state_folder(t):
    t.sandbox("--", "true").gives()
    r = in_namespace(t, 'mount --bind "$SMOLVM_HOME" "$SMOLVM_HOME"; '
                     'mount -o remount,ro,bind "$SMOLVM_HOME"', "sandbox", "run", "--", "echo", "x")
    check((r.rc, r.out) == (0, b"x\n") or (r.rc == 125 and b"ead-only" in r.err), r.describe())


@test()
def a_state_folder_that_is_not_ours(t):
    t.become_nobody()
    t.home = t.folder("locked")
    os.chmod(t.home, 0o500 if not AS_ROOT else 0o700)
    r = t.sandbox("--", "true")
    r.fails(125, t.home)


@test()
def a_state_folder_that_is_a_file(t):
    t.home = t.write("file")
    t.sandbox("--", "true").fails(125, t.home)


@test()
def a_full_disk(t):
    r = in_namespace(t, 'mkdir -p "$SMOLVM_HOME"; mount -t tmpfs -o size=64k none "$SMOLVM_HOME"',
                     "sandbox", "run", "--", "true")
    r.fails(125, "space")


@test()
def a_disk_that_fills_while_the_guest_writes(t):
    r = in_namespace(t, 'mkdir -p "$SMOLVM_HOME"; mount -t tmpfs -o size=40m none "$SMOLVM_HOME"',
                     "sandbox", "run", "--timeout", "30s", "--", "sh", "-c",
                     "dd if=/dev/zero of=/fill bs=1M count=200 conv=fsync && echo written",
                     timeout=50)
    check(r.rc in (1, 125) and r.err and not r.out, r.describe())


@test(backend="qemu")
def without_qemu(t):
    r = in_namespace(t, 'touch none; chmod 644 none; n=$PWD/none; '
                     'for f in $(which -a qemu-system-x86_64 qemu-system-aarch64); '
                     'do mount --bind $n $f; done',
                     "sandbox", "run", "--", "true")
    r.fails(125, "qemu", "install")


@test(backend="qemu")
def without_qemu_in_the_path(t):
    tools = t.folder("bin")
    for name in ("mke2fs", "sh"):
        os.symlink(need_tool(name), os.path.join(tools, name))
    t.sandbox("--", "true", env={"PATH": tools}).fails(125, "qemu", "install")


@test()
def without_mke2fs(t):
    r = in_namespace(t, 'touch none; chmod 644 none; n=$PWD/none; '
                     'for f in /sbin/mke2fs /usr/sbin/mke2fs; do '
                     '[ ! -s $f ] || mount --bind $n $f; done; rm -f $n',
                     "sandbox", "run", "--", "true")
    r.fails(125, "mke2fs")


@test()
def without_the_kernel(t):
    copies = t.folder("copies")
    for name in ("smolvm", "smolvm-vmm"):
        shutil.copy(os.path.join(BUILD, name), copies)
    t.binary = os.path.join(copies, "smolvm")
    t.sandbox("--", "true").fails(125, "kernel")


@test()
def without_smolvm_vmm(t):
    copies = t.folder("copies")
    for name in ("smolvm", "vmlinux"):
        shutil.copy(os.path.join(BUILD, name), copies)
    t.binary = os.path.join(copies, "smolvm")
    t.sandbox("--", "true").fails(125, "smolvm-vmm")


@test()
def kvm_that_may_not_be_opened(t):
    if not os.path.exists("/dev/kvm"):
        raise Skip("no /dev/kvm here")
    t.become_nobody()
    t.sandbox("--", "echo", "x").gives(0, b"x\n")


@test()
def with_few_file_descriptors(t):
    r = t.run("sandbox", "run", "--", "echo", "x",
              prefix=("sh", "-c", 'ulimit -n 64; exec "$@"', "sh"))
    check((r.rc, r.out) == (0, b"x\n") or r.rc == 125, r.describe())


@test()
def with_a_small_file_size_limit(t):
    r = t.run("sandbox", "run", "--", "echo", "x",
              prefix=("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
    check((r.rc, r.out) == (0, b"x\n") or (r.rc == 125 and r.err), r.describe())


@test()
def from_a_folder_that_is_gone(t):
    r = t.run("sandbox", "run", "--", "echo", "x",
              prefix=("sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh"))
    r.gives(0, b"x\n")


@test()
def with_everything_in_the_environment(t):
    env = {"V%d" % i: "x" * 200 for i in range(300)}
    t.sandbox("--", "echo", "x", env=env).gives(0, b"x\n")


@test()
def ignored_signals_stay_the_callers_affair(t):
    r = t.run("sandbox", "run", "--", "sh", "-c", "kill -TERM $$; echo survived",
              prefix=("sh", "-c", 'trap "" TERM INT PIPE; exec "$@"', "sh"))
    same(r.rc, 143, "exit code in a guest that starts with default signals")


def installed_files():
    """Program -> its path below the prefix."""
    def ask(what):
        r = subprocess.run(["meson", "introspect", what, BUILD], stdout=subprocess.PIPE)
        if r.returncode != 0:
            raise Skip("meson cannot say what is installed")
        return json.loads(r.stdout)
    prefix = next(o["value"] for o in ask("--buildoptions") if o["name"] == "prefix")
    return {source: os.path.relpath(target, prefix) for source, target in
            ask("--installed").items() if os.path.basename(source) in ("smolvm", "smolvm-vmm")
            and "/share/" not in target}


@test()
def installed_it_works_too(t):
    files = installed_files()
    same(len(files), 2, "programs that are installed")
    files[os.path.join(BUILD, "vmlinux")] = "lib/smolvm/vmlinux"
    for source, target in files.items():
        path = t.path("some where", target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(source, path)
    t.binary = t.path("some where", "bin/smolvm")
    t.sandbox("--", "echo", "x").gives(0, b"x\n")


main()
