/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The builtin backend: the machine runs in this process, by the library of smolvm/vmm.h.
 *
 * With smolvm's own kernel the streams are connections (vsock) and shared folders are devices
 * (virtio-fs). A kernel of somebody else's has what every backend needs, and no more is asked of
 * it: it gets a console port as the channel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backend/run.h"
#include "base/err.h"
#include "base/fd.h"

#define CHANNEL_BYTES (1 << 20)
#define CARRIER " SMOLVM_CARRIER=vsock" /* see proto/agent.h */

struct builtin {
	struct smolvm_vmm *vmm;
	int kernel_fd, serial_fd;
	const char *folder_tag;
};

static void builtin_free(struct builtin *b)
{
	if (!b)
		return;
	smolvm_vmm_destroy(b->vmm);
	fd_close(&b->kernel_fd);
	fd_close(&b->serial_fd);
	free(b);
}

/* ---- devices ---- */

static int add_disks(struct builtin *b, const struct backend_spec *s, struct smolvm_error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->n_disks; i++) {
		struct smolvm_vmm_disk disk = { .fd = dup(s->disks[i].fd),
						.read_only = s->disks[i].read_only,
						.unsafe_cache = !s->disks[i].read_only };

		rc = disk.fd < 0 ? err_sys(err, "cannot open disk %zu", i)
				 : smolvm_vmm_add_disk(b->vmm, &disk, err);
		if (rc < 0)
			fd_close(&disk.fd);
	}
	return rc;
}

static int add_folders(struct builtin *b, const struct backend_spec *s, struct smolvm_error *err)
{
	char tag[40];
	int rc = 0;

	for (unsigned int i = 0; rc == 0 && i < s->n_folders; i++) {
		struct smolvm_vmm_fs fs = { .root_fd = dup(s->folders[i].fd),
					    .tag = tag,
					    .read_only = s->folders[i].read_only };

		snprintf(tag, sizeof(tag), "%s%u", s->folder_tag, s->folders[i].number);
		rc = fs.root_fd < 0 ? err_sys(err, "cannot share folder %u",
					      s->folders[i].number)
				    : smolvm_vmm_add_fs(b->vmm, &fs, err);
		if (rc < 0)
			fd_close(&fs.root_fd);
	}
	return rc;
}

static int add_vsock(struct builtin *b, const struct backend_spec *s, struct smolvm_error *err)
{
	struct smolvm_vmm_vsock vsock = { .incoming = s->events.incoming, .ctx = s->events.ctx };

	return smolvm_vmm_add_vsock(b->vmm, &vsock, err);
}

/* Port 1, as with QEMU. */
static int add_channel(struct builtin *b, struct backend_vm *vm, struct smolvm_error *err)
{
	struct smolvm_vmm_console console = {
		.ports = { { NULL, -1, -1 }, { .name = "smolvm" } }, .n_ports = 2
	};
	int fds[2], size = CHANNEL_BYTES, rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return err_sys(err, "cannot make a channel for the machine");
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	vm->channel_fd = fds[0];
	console.ports[1].in_fd = console.ports[1].out_fd = fds[1];
	rc = smolvm_vmm_add_console(b->vmm, &console, err);
	if (rc < 0)
		fd_close(&fds[1]);
	return rc;
}

static int add_devices(struct builtin *b, const struct backend_spec *s, struct backend_vm *vm,
		       struct smolvm_error *err)
{
	int rc = add_disks(b, s, err);

	if (rc == 0 && s->own_kernel) {
		vm->extras = BACKEND_STREAMS | BACKEND_FOLDERS;
		rc = add_vsock(b, s, err);
		rc = rc ? rc : add_folders(b, s, err);
	} else if (rc == 0) {
		rc = add_channel(b, vm, err);
	}
	rc = rc ? rc : smolvm_vmm_add_rng(b->vmm, err);
	return rc ? rc : smolvm_vmm_add_balloon(b->vmm, err);
}

/* ---- life ---- */

static int create(struct builtin *b, const struct backend_spec *s, struct smolvm_error *err)
{
	char cmdline[512];
	struct smolvm_vmm_config config = {
		.name = strlen(s->name) > 8 ? s->name + strlen(s->name) - 8 : s->name,
		.cpus = s->cpus,
		.memory_mib = s->memory_mib,
		/* A boot touches some 30 MiB: twenty faults in place of thousands. */
		.huge_pages = 1,
		.kernel_fd = b->kernel_fd,
		.initramfs = s->initramfs,
		.initramfs_bytes = s->initramfs_bytes,
		.cmdline = cmdline,
		.nested = s->nested,
		.paused = 1,
		.serial_fd = b->serial_fd,
		.thread_started = s->events.thread_started,
		.thread_started_ctx = s->events.ctx,
	};

	if (backend_cmdline(s, s->own_kernel ? CARRIER : "", cmdline, sizeof(cmdline)) < 0)
		return err_set(err, E2BIG, "the kernel's command line is too long");
	return smolvm_vmm_create(&b->vmm, &config, err);
}

static int open_files(struct builtin *b, const struct backend_spec *s, struct backend_vm *vm,
		      struct smolvm_error *err)
{
	int console[2];

	b->kernel_fd = open(s->kernel, O_RDONLY | O_CLOEXEC);
	if (b->kernel_fd < 0)
		return err_sys(err, "cannot open the kernel %s", s->kernel);
	if (pipe2(console, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(err, "cannot make a pipe for the console");
	vm->console_fd = console[0];
	b->serial_fd = console[1];
	return 0;
}

static int builtin_open(const struct backend_spec *s, struct backend_vm *ret,
			struct smolvm_error *err)
{
	struct backend_vm vm = BACKEND_VM_INIT;
	struct builtin *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return err_nomem(err);
	b->kernel_fd = b->serial_fd = -1;
	b->folder_tag = s->folder_tag;
	vm.runner = &backend_run_builtin;
	vm.priv = b;
	rc = open_files(b, s, &vm, err);
	rc = rc ? rc : create(b, s, err);
	rc = rc ? rc : add_devices(b, s, &vm, err);
	if (rc == 0) {
		vm.end_fd = dup(smolvm_vmm_exit_fd(b->vmm));
		rc = vm.end_fd < 0 ? err_sys(err, "cannot watch the machine") : 0;
	}
	if (rc < 0) {
		backend_vm_close(&vm);
		builtin_free(b);
	} else {
		*ret = vm;
	}
	return rc;
}

static int builtin_prepare(struct backend_vm *vm, struct smolvm_error *err)
{
	struct builtin *b = vm->priv;
	int rc = smolvm_vmm_start(b->vmm, err);

	fd_close(&b->kernel_fd);
	return rc;
}

static int builtin_run(struct backend_vm *vm, struct smolvm_error *err)
{
	struct builtin *b = vm->priv;

	return smolvm_vmm_resume(b->vmm, err);
}

static void builtin_ended(struct backend_vm *vm, struct backend_end *ret)
{
	struct builtin *b = vm->priv;
	struct smolvm_vmm_exit end = { 0 };

	*ret = (struct backend_end){ 0 };
	if (smolvm_vmm_wait(b->vmm, 0, &end, NULL) < 0)
		end.reason = SMOLVM_VMM_FAILED;
	/* Our kernel restarts by a triple fault: the caller knows whether it said that it would. */
	ret->failed = end.reason == SMOLVM_VMM_FAILED || end.reason == SMOLVM_VMM_HALTED ||
		      end.reason == SMOLVM_VMM_TRIPLE_FAULT;
	snprintf(ret->text, sizeof(ret->text), "%s%s",
		 end.reason == SMOLVM_VMM_FAILED   ? "the hypervisor failed: "
		 : end.reason == SMOLVM_VMM_HALTED ? "the guest hangs: "
						   : "",
		 end.text);
}

/* The rest goes with the process. */
static void builtin_kill(struct backend_vm *vm)
{
	struct builtin *b = vm->priv;

	smolvm_vmm_stop(b->vmm);
}

static int builtin_connect(struct backend_vm *vm, uint32_t port, int fd, const char *greeting,
			   struct smolvm_error *err)
{
	struct builtin *b = vm->priv;

	return smolvm_vmm_vsock_connect(b->vmm, port, fd, greeting, err);
}

static int builtin_folder_user(struct backend_vm *vm, unsigned int number, uint32_t uid,
			       uint32_t gid, struct smolvm_error *err)
{
	struct builtin *b = vm->priv;
	char tag[40];

	snprintf(tag, sizeof(tag), "%s%u", b->folder_tag, number);
	return smolvm_vmm_fs_user(b->vmm, tag, uid, gid, err);
}

static void builtin_stats(struct backend_vm *vm, struct backend_stats *ret)
{
	struct builtin *b = vm->priv;
	struct smolvm_vmm_timeline timeline;

	smolvm_vmm_counters(b->vmm, &ret->counters);
	smolvm_vmm_timeline(b->vmm, &timeline);
	ret->loaded = timeline.loaded;
	ret->run = timeline.run;
	ret->driver = timeline.driver;
}

const struct backend_runner backend_run_builtin = {
	.name = "builtin",
	.open = builtin_open,
	.prepare = builtin_prepare,
	.run = builtin_run,
	.ended = builtin_ended,
	.kill = builtin_kill,
	.connect = builtin_connect,
	.folder_user = builtin_folder_user,
	.stats = builtin_stats,
};
