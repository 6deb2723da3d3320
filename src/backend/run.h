/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine is run: the seam between smolvm-vmm and the hypervisors.
 *
 * What every backend gives is little: a kernel running with so many vCPUs, so much memory, some
 * disks, and one byte channel to the guest, on which everything else can ride. What one offers
 * beyond that is a bit of enum backend_extra: where it is set, connections of the guest's own
 * carry the streams and there is no channel, or shared folders are devices.
 */
#ifndef BACKEND_RUN_H
#define BACKEND_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>
#include <smolvm/vmm.h>

#include "backend/backend.h"

#define BACKEND_DISKS_MAX 8
#define BACKEND_FOLDERS_MAX 24

enum backend_extra {
	BACKEND_STREAMS = 1, /* connect(), incoming(); no channel */
	BACKEND_FOLDERS = 2, /* the folders asked for are virtio-fs devices; folder_user() */
};

/**
 * struct backend_events - what a machine's own threads ask; never in the caller's thread.
 * @incoming:       the guest connects to @port of the host: a connected stream socket, which is
 *                  then the machine's, or -errno. Must not block.
 * @thread_started: as in smolvm/vmm.h; may be NULL.
 */
struct backend_events {
	int (*incoming)(void *ctx, uint32_t port);
	int (*thread_started)(void *ctx, enum smolvm_vmm_thread kind);
	void *ctx;
};

/**
 * struct backend_spec - a machine to start; all of it stays the caller's.
 * @program, @accelerator: from the probe.
 * @kernel:    path; @own_kernel: it is smolvm's own build, whose quirks and drivers are known.
 * @initramfs: @initramfs_bytes in memory, kept until prepare().
 * @disks:     seen by the guest as /dev/vda, /dev/vdb, ... in this order.
 * @folders:   shared directories, O_PATH, for a backend that can make devices of them; the guest
 *             mounts them as @folder_tag with their number.
 * @nested:    the guest sees the processor's own virtualization.
 * @confine:   called with @confine_ctx in a hypervisor's process before it is executed, as
 *             before_exec of base/proc.h; may be NULL.
 * @verbose:   the kernel speaks on the console.
 */
struct backend_spec {
	const char *name;
	const char *program;
	enum accelerator accelerator;
	unsigned int cpus;
	unsigned int memory_mib;
	const char *kernel;
	bool own_kernel;
	const void *initramfs;
	size_t initramfs_bytes;
	struct backend_disk {
		int fd;
		bool read_only;
	} disks[BACKEND_DISKS_MAX];
	size_t n_disks;
	struct backend_folder {
		int fd;
		unsigned int number;
		bool read_only;
	} folders[BACKEND_FOLDERS_MAX];
	size_t n_folders;
	const char *folder_tag;
	int (*confine)(void *ctx);
	void *confine_ctx;
	bool nested;
	bool verbose;
	struct backend_events events;
};

/**
 * struct backend_vm - a machine that was opened.
 * @extras:      bits of enum backend_extra.
 * @pid:         the hypervisor's process; -1 when the machine runs in this one.
 * @end_fd:      becomes readable when the machine has ended.
 * @channel_fd:  the byte channel, a non-blocking socket; -1 with BACKEND_STREAMS.
 * @console_fd:  what the guest's console prints, non-blocking.
 * @messages_fd: what a hypervisor's process complains about, a non-blocking pipe; or -1.
 * @priv:        the backend's.
 */
struct backend_vm {
	const struct backend_runner *runner;
	unsigned int extras;
	pid_t pid;
	int end_fd;
	int channel_fd;
	int console_fd;
	int messages_fd;
	void *priv;
};

#define BACKEND_VM_INIT { .pid = -1, .end_fd = -1, .channel_fd = -1, .console_fd = -1, \
			  .messages_fd = -1 }

/**
 * struct backend_end - how a machine ended.
 * @failed: something went wrong, which @text names; a restart may look like a triple fault.
 * @text: otherwise what the guest did, where that is known, or "".
 */
struct backend_end {
	bool failed;
	char text[200];
};

/**
 * struct backend_stats - what it took to get here; zeroes where that is not known.
 * @counters: see smolvm/vmm.h. The others are CLOCK_MONOTONIC ns:
 * @loaded: the kernel is in memory, @run: the guest runs, @driver: it has set up a first device.
 */
struct backend_stats {
	struct smolvm_vmm_counters counters;
	int64_t loaded, run, driver;
};

/**
 * struct backend_runner - how one hypervisor runs machines.
 * @open:  everything that takes names, descriptors or other processes; the guest may run already.
 *         A child process dies with the calling thread.
 * @prepare: make the threads; the caller may have confined itself since open(). NULL: nothing.
 * @run:   let the guest run; no new thread, file or process is needed for it. NULL: it does.
 * @ended: @end_fd has become readable: why. Once.
 * @kill:  end it, and wait until it has ended.
 * @connect, @folder_user: as smolvm_vmm_vsock_connect() and smolvm_vmm_fs_user(), for those who
 *         have the extra; @number is the folder's.
 * @stats: may be NULL.
 */
struct backend_runner {
	const char *name;
	int (*open)(const struct backend_spec *spec, struct backend_vm *ret,
		    struct smolvm_error *err);
	int (*prepare)(struct backend_vm *vm, struct smolvm_error *err);
	int (*run)(struct backend_vm *vm, struct smolvm_error *err);
	void (*ended)(struct backend_vm *vm, struct backend_end *ret);
	void (*kill)(struct backend_vm *vm);
	int (*connect)(struct backend_vm *vm, uint32_t port, int fd, const char *greeting,
		       struct smolvm_error *err);
	int (*folder_user)(struct backend_vm *vm, unsigned int number, uint32_t uid, uint32_t gid,
			   struct smolvm_error *err);
	void (*stats)(struct backend_vm *vm, struct backend_stats *ret);
};

/** backend_runner_find() - by a backend's name; NULL when there is none. */
const struct backend_runner *backend_runner_find(const char *name);

/** backend_vm_close() - close the descriptors (not the machine). */
void backend_vm_close(struct backend_vm *vm);

/**
 * backend_cmdline() - the kernel's command line, into @ret of @cap bytes: what every machine has,
 * then @more. Return: 0 or -E2BIG.
 */
int backend_cmdline(const struct backend_spec *spec, const char *more, char *ret, size_t cap);

extern const struct backend_runner backend_run_builtin;
extern const struct backend_runner backend_run_qemu;

#endif
