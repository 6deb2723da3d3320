/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU backend: a "microvm" machine with modern virtio-mmio devices, on KVM or emulated.
 *
 * Everything that the guest does not need is off; what QEMU itself may do is cut down by its own
 * seccomp filter. Descriptors are inherited, so QEMU opens nothing by name but the kernel and its
 * firmware. Nothing here needs privilege or anything that QEMU lacks on other hosts.
 *
 * Emulated (TCG), three things are told to the guest that it could otherwise only measure, slowly
 * and at times wrongly: the frequency of the TSC (the host's), that of the APIC timer, and that
 * lock prefixes need not be patched. Boot hangs at random without the first. One emulator thread
 * serves several vCPUs: with a thread each, code that another CPU is patching is translated now and
 * then. A single vCPU has a thread of its own, which is a little quicker.
 */
#include "backend/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "backend/tsc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/proc.h"

/* syscalls (main): pidfd_send_signal poll ppoll wait4 */

#define ARGS_MAX 80
#define SOCKET_BYTES (1 << 20)
#define DEATH_WAIT_MS 10000

/* Descriptor numbers in the child. */
enum { FD_CHANNEL = 3, FD_CONSOLE, FD_INITRAMFS, FD_DISK };

/* ---- arguments ---- */

struct args {
	char *list[ARGS_MAX + 1];
	size_t n;
	bool failed;
};

static void args_free(struct args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->list[i]);
}

__attribute__((format(printf, 2, 3))) static void add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (a->n == ARGS_MAX || vasprintf(&s, fmt, ap) < 0)
		a->failed = true;
	else
		a->list[a->n++] = s;
	va_end(ap);
}

static void add_all(struct args *a, const char *const *list)
{
	for (; *list; list++)
		add(a, "%s", *list);
}

/*
 * A guest that is not told of nesting neither pays for it nor is attacked through it. Fast string
 * moves (erms, fsrm) are slow ones emulated: a kernel that believes in them copies and clears byte
 * by byte.
 */
static void add_cpu(struct args *a, const struct backend_spec *s)
{
	add(a, "-accel");
	if (s->accelerator == ACCEL_KVM)
		add(a, "kvm");
	else
		add(a, "tcg,thread=%s", s->cpus > 1 ? "single" : "multi");
	add(a, "-cpu");
	if (s->accelerator == ACCEL_KVM)
		add(a, "host%s", s->nested ? "" : ",-svm,-vmx");
	else
		add(a, "max,-erms,-fsrm%s", s->nested ? "" : ",-svm");
}

/*
 * An emulated processor that emulates another one's guests loses an interrupt of its timer now and
 * then. With a timer set for each next event that is the end of all time; one that ticks goes on.
 */
#define NESTED_CLOCK " nohz=off highres=off"

static void add_kernel(struct args *a, const struct backend_spec *s)
{
	char tcg[160] = "", line[512];

	if (s->accelerator == ACCEL_TCG) {
		unsigned int khz = tsc_khz();

		if (khz)
			snprintf(tcg, sizeof(tcg),
				 " tsc_early_khz=%u tsc=reliable no_timer_check"
				 " noreplace-smp lapic_timer_hz=1000000000%s",
				 khz, s->nested ? NESTED_CLOCK : "");
	}
	add(a, "-kernel");
	add(a, "%s", s->kernel);
	add(a, "-initrd");
	add(a, "/dev/fd/%d", FD_INITRAMFS);
	add(a, "-append");
	if (backend_cmdline(s, tcg, line, sizeof(line)) < 0)
		a->failed = true;
	add(a, "%s", line);
}

static void add_disks(struct args *a, const struct backend_spec *s)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		bool ro = s->disks[i].read_only;

		add(a, "-add-fd");
		add(a, "fd=%d,set=%zu", FD_DISK + (int)i, i + 1);
		add(a, "-drive");
		add(a, "if=none,id=disk%zu,format=raw,file=/dev/fdset/%zu,file.locking=off,%s", i,
		    i + 1, ro ? "readonly=on" : "auto-read-only=off,cache=unsafe,discard=unmap");
	}
}

/* Devices get their names in the guest in the order in which they are plugged in: the channel is
 * vport0p1 because it comes first, the disks are vda, vdb, ... A full host disk is the guest's I/O
 * error: by default QEMU would stop the machine and wait for an operator. */
static void add_devices(struct args *a, const struct backend_spec *s)
{
	add(a, "-chardev");
	add(a, "socket,id=channel,fd=%d", FD_CHANNEL);
	add_all(a,
		(const char *const[]){ "-device", "virtio-serial-device,max_ports=2", "-device",
				       "virtserialport,chardev=channel,nr=1,name=smolvm", NULL });
	for (size_t i = 0; i < s->n_disks; i++) {
		add(a, "-device");
		add(a, "virtio-blk-device,drive=disk%zu,werror=report,rerror=report", i);
	}
	add(a, "-chardev");
	add(a, "socket,id=console,fd=%d", FD_CONSOLE);
	add_all(a, (const char *const[]){ "-serial", "chardev:console", NULL });
}

static void add_machine(struct args *a, const struct backend_spec *s)
{
	add(a, "%s", s->program);
	add(a, "-name");
	add(a, "%s", s->name);
	add_all(a, (const char *const[]){ "-nodefaults", "-no-user-config", "-display", "none",
					  "-no-reboot", "-monitor", "none", "-parallel", "none",
					  NULL });
#ifdef __linux__
	add_all(a, (const char *const[]){ "-sandbox",
					  "on,obsolete=deny,elevateprivileges=deny,"
					  "spawn=deny,resourcecontrol=deny",
					  NULL });
#endif
	add(a, "-M");
	/* A kernel that is not ours may wait for a clock and timer that it expects. */
	add(a, "microvm,acpi=off,pcie=off,usb=off,graphics=off,%s",
	    s->own_kernel ? "pit=off,pic=off,rtc=off,isa-serial=on" : "isa-serial=on,rtc=on");
	add_all(a, (const char *const[]){ "-global", "virtio-mmio.force-legacy=false", NULL });
	add(a, "-smp");
	add(a, "%u", s->cpus);
	add(a, "-m");
	add(a, "%u", s->memory_mib);
}

/* ---- life ---- */

static int socket_pair(int ret[2], struct smolvm_error *err)
{
	int size = SOCKET_BYTES;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) < 0)
		return err_sys(err, "cannot make a channel for the machine");
	for (int i = 0; i < 2; i++)
		setsockopt(ret[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fd_set_nonblock(ret[0], 1);
	return 0;
}

/**
 * struct ends - the child's ends of what it gets.
 */
struct ends {
	int channel, console, messages, initramfs;
};

static void close_ends(struct ends *e)
{
	fd_close(&e->channel);
	fd_close(&e->console);
	fd_close(&e->messages);
	fd_close(&e->initramfs);
}

static int make_ends(const struct backend_spec *s, struct ends *ret, struct backend_vm *vm,
		     struct smolvm_error *err)
{
	int fds[2];
	int rc = socket_pair(fds, err);

	if (rc < 0)
		return rc;
	vm->channel_fd = fds[0];
	ret->channel = fds[1];
	rc = socket_pair(fds, err);
	if (rc < 0)
		return rc;
	vm->console_fd = fds[0];
	ret->console = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(err, "cannot make a pipe for QEMU's messages");
	vm->messages_fd = fds[0];
	ret->messages = fds[1];
	fd_set_nonblock(vm->messages_fd, 1);
	ret->initramfs = fd_memfd("initramfs");
	if (ret->initramfs < 0 ||
	    fd_write_all(ret->initramfs, s->initramfs, s->initramfs_bytes) < 0)
		return err_set(err, ENOMEM, "no memory for the initramfs");
	return 0;
}

static int spawn(const struct backend_spec *s, struct args *a, const struct ends *e,
		 struct backend_vm *vm, struct smolvm_error *err)
{
	struct proc_fd fds[8 + BACKEND_DISKS_MAX] = {
		{ e->messages, 1 },
		{ e->messages, 2 },
		{ e->channel, FD_CHANNEL },
		{ e->console, FD_CONSOLE },
		{ e->initramfs, FD_INITRAMFS },
	};
	struct proc_config config = { .path = s->program,
				      .argv = (const char *const *)a->list,
				      .fds = fds,
				      .n_fds = 5,
				      .die_with_parent = true,
				      .new_session = true,
				      .before_exec = s->confine,
				      .before_exec_ctx = s->confine_ctx };

	for (size_t i = 0; i < s->n_disks; i++)
		fds[config.n_fds++] = (struct proc_fd){ s->disks[i].fd, FD_DISK + (int)i };
	return proc_spawn(&config, &vm->pid, &vm->end_fd, err);
}

static int qemu_open(const struct backend_spec *s, struct backend_vm *ret,
		     struct smolvm_error *err)
{
	struct backend_vm vm = BACKEND_VM_INIT;
	struct ends ends = { -1, -1, -1, -1 };
	struct args args = { .n = 0 };
	int rc;

	vm.runner = &backend_run_qemu;
	add_machine(&args, s);
	add_cpu(&args, s);
	add_kernel(&args, s);
	add_disks(&args, s);
	add_devices(&args, s);
	rc = args.failed ? err_nomem(err) : make_ends(s, &ends, &vm, err);
	if (rc == 0)
		rc = spawn(s, &args, &ends, &vm, err);
	args_free(&args);
	close_ends(&ends);
	if (rc < 0)
		backend_vm_close(&vm);
	else
		*ret = vm;
	return rc;
}

static void qemu_ended(struct backend_vm *vm, struct backend_end *ret)
{
	int status = 0;

	while (waitpid(vm->pid, &status, 0) < 0 && errno == EINTR)
		;
	vm->pid = -1;
	*ret = (struct backend_end){ .failed = status != 0 };
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		snprintf(ret->text, sizeof(ret->text),
			 "the hypervisor was killed; was the host out of memory?");
	else if (WIFSIGNALED(status))
		snprintf(ret->text, sizeof(ret->text), "the hypervisor crashed (signal %d)",
			 WTERMSIG(status));
	else if (status)
		snprintf(ret->text, sizeof(ret->text), "the hypervisor failed");
}

static void qemu_kill(struct backend_vm *vm)
{
	int status;

	if (vm->pid <= 0)
		return;
	proc_kill(vm->end_fd, SIGKILL);
	proc_wait(vm->pid, vm->end_fd, DEATH_WAIT_MS, &status);
}

const struct backend_runner backend_run_qemu = {
	.name = "qemu",
	.open = qemu_open,
	.ended = qemu_ended,
	.kill = qemu_kill,
};
