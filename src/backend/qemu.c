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
#include "backend/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backend/tsc.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"

#define ARGS_MAX 80
#define SOCKET_BYTES (1 << 20)

/* Descriptor numbers in the child. */
enum { FD_CHANNEL = 3, FD_CONSOLE, FD_INITRAMFS, FD_DISK };

#if defined(__x86_64__)
#define PROGRAM "qemu-system-x86_64"
#define PACKAGE "qemu-system-x86"
#elif defined(__aarch64__)
#define PROGRAM "qemu-system-aarch64"
#define PACKAGE "qemu-system-arm"
#endif

static void qemu_probe(const struct backend_host *host, struct backend_probe *ret)
{
	AUTO_FREE char *program = path_find_tool(PROGRAM);

	*ret = (struct backend_probe){ 0 };
	if (!program || strlen(program) >= sizeof(ret->program)) {
		snprintf(ret->text, sizeof(ret->text),
			 "QEMU is not installed: 'sudo apt-get install " PACKAGE
			 "' (Fedora: qemu-kvm, macOS: brew install qemu)");
		return;
	}
	snprintf(ret->program, sizeof(ret->program), "%s", program);
	ret->usable = true;
	ret->accelerator = host->kvm_usable ? ACCEL_KVM : ACCEL_TCG;
	ret->nested = !host->kvm_usable || host->kvm_nested;
	snprintf(ret->text, sizeof(ret->text), "%s, %s", program,
		 host->kvm_usable ? "with KVM" : "emulating the processor (slower than KVM)");
}

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

static void add_kernel(struct args *a, const struct backend_spec *s)
{
	char tcg[160] = "";

	if (s->accelerator == ACCEL_TCG) {
		unsigned int khz = tsc_khz();

		if (khz)
			snprintf(tcg, sizeof(tcg),
				 " tsc_early_khz=%u tsc=reliable no_timer_check"
				 " noreplace-smp lapic_timer_hz=1000000000",
				 khz);
	}
	add(a, "-kernel");
	add(a, "%s", s->kernel);
	add(a, "-initrd");
	add(a, "/dev/fd/%d", FD_INITRAMFS);
	add(a, "-append");
	add(a, "console=ttyS0 reboot=t panic=-1%s%s kvm.enable_virt_at_load=0 dummy.numdummies=0",
	    s->verbose ? "" : " quiet", tcg);
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

/* ---- start ---- */

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

static int spawn(const struct backend_spec *s, struct args *a, int channel, int console,
		 int messages, struct backend_vm *vm, struct smolvm_error *err)
{
	struct proc_fd fds[8 + BACKEND_DISKS_MAX] = {
		{ messages, 1 },
		{ messages, 2 },
		{ channel, FD_CHANNEL },
		{ console, FD_CONSOLE },
		{ s->initramfs_fd, FD_INITRAMFS },
	};
	struct proc_config config = { .path = s->program,
				      .argv = (const char *const *)a->list,
				      .fds = fds,
				      .n_fds = 5,
				      .die_with_parent = true,
				      .new_session = true };

	for (size_t i = 0; i < s->n_disks; i++)
		fds[config.n_fds++] = (struct proc_fd){ s->disks[i].fd, FD_DISK + (int)i };
	return proc_spawn(&config, &vm->pid, &vm->pidfd, err);
}

static int qemu_start(const struct backend_spec *s, struct backend_vm *ret,
		      struct smolvm_error *err)
{
	struct backend_vm vm = { -1, -1, -1, -1, -1 };
	int channel[2] = { -1, -1 }, console[2] = { -1, -1 }, messages[2] = { -1, -1 };
	struct args args = { .n = 0 };
	int rc;

	add_machine(&args, s);
	add_cpu(&args, s);
	add_kernel(&args, s);
	add_disks(&args, s);
	add_devices(&args, s);
	if (args.failed) {
		args_free(&args);
		return err_nomem(err);
	}
	rc = socket_pair(channel, err);
	if (rc == 0)
		rc = socket_pair(console, err);
	if (rc == 0 && pipe2(messages, O_CLOEXEC) < 0)
		rc = err_sys(err, "cannot make a pipe for QEMU's messages");
	if (rc == 0)
		rc = spawn(s, &args, channel[1], console[1], messages[1], &vm, err);
	args_free(&args);
	fd_close(&channel[1]);
	fd_close(&console[1]);
	fd_close(&messages[1]);
	vm.channel_fd = channel[0];
	vm.console_fd = console[0];
	vm.messages_fd = messages[0];
	if (rc < 0) {
		backend_vm_close(&vm);
		return rc;
	}
	fd_set_nonblock(vm.messages_fd, 1);
	*ret = vm;
	return 0;
}

const struct backend backend_qemu = {
	.name = "qemu",
	.probe = qemu_probe,
	.start = qemu_start,
};
