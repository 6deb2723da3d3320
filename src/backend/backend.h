/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine is run: the seam between smolvm and the hypervisors.
 *
 * What a backend gives is little: a kernel running with so many vCPUs, so much memory, some disks,
 * and one byte channel to the guest. Everything else rides on the channel.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

#define BACKEND_DISKS_MAX 8

enum accelerator { ACCEL_NONE, ACCEL_TCG, ACCEL_KVM };

/** accelerator_name() - "tcg", "kvm" or "". */
const char *accelerator_name(enum accelerator a);

/**
 * struct backend_host - what is known about this host before a backend is asked.
 * @kvm_usable: there is a KVM that is worth using.
 * @kvm_worth_measuring: it could be opened, and backend_host_measure() would tell more.
 * @kvm_verdict: what a measurement found, to be kept: a number of backend_host_recall()'s.
 * @kvm_nested: KVM passes the processor's virtualization on to guests that are to have it.
 * @kvm_text:   one line: what was found, and what to do about it.
 */
struct backend_host {
	bool kvm_usable;
	bool kvm_worth_measuring;
	int kvm_verdict;
	bool kvm_nested;
	char kvm_text[256];
};

/** backend_host_look() - what can be seen without running anything. */
void backend_host_look(struct backend_host *ret);

/** backend_host_measure() - run a tiny guest in KVM, within 300 ms. */
void backend_host_measure(struct backend_host *h);

/**
 * backend_host_recall() - what an earlier measurement of this boot found.
 * Return: 0, or -EINVAL for what has to be measured again.
 */
int backend_host_recall(struct backend_host *h, int verdict);

/**
 * struct backend_probe - what a backend can do here.
 * @usable:      machines can be started.
 * @accelerator: with what.
 * @nested:      guests can run machines of their own.
 * @program:     path of the hypervisor's executable; "" for the built-in one.
 * @text:        one line: why it is usable, or why not and what to do.
 */
struct backend_probe {
	bool usable;
	enum accelerator accelerator;
	bool nested;
	char program[256];
	char text[256];
};

/**
 * struct backend_spec - a machine to start; all of it stays the caller's.
 * @program, @accelerator: from the probe.
 * @kernel:       path; @own_kernel: it is smolvm's own build, whose quirks are known.
 * @initramfs_fd: seekable.
 * @disks:        seen by the guest as /dev/vda, /dev/vdb, ... in this order.
 * @nested:       the guest sees the processor's own virtualization.
 * @verbose:      the kernel speaks on the console.
 */
struct backend_spec {
	const char *name;
	const char *program;
	enum accelerator accelerator;
	unsigned int cpus;
	unsigned int memory_mib;
	const char *kernel;
	bool own_kernel;
	int initramfs_fd;
	struct backend_disk {
		int fd;
		bool read_only;
	} disks[BACKEND_DISKS_MAX];
	size_t n_disks;
	bool nested;
	bool verbose;
};

/**
 * struct backend_vm - a machine that was started.
 * @pid, @pidfd:  the hypervisor's process; -1 when the machine runs in this one.
 * @channel_fd:   the byte channel, a non-blocking socket.
 * @console_fd:   what the guest's console prints, a non-blocking socket.
 * @messages_fd:  what the hypervisor itself complains about, a non-blocking pipe.
 */
struct backend_vm {
	pid_t pid;
	int pidfd;
	int channel_fd;
	int console_fd;
	int messages_fd;
};

/**
 * struct backend - one hypervisor.
 * @probe: fills in @ret; cheap (no process is started), changes nothing.
 * @start: spawns it; the child dies with the calling thread.
 */
struct backend {
	const char *name;
	void (*probe)(const struct backend_host *host, struct backend_probe *ret);
	int (*start)(const struct backend_spec *spec, struct backend_vm *ret,
		     struct smolvm_error *err);
};

/** backend_table - every backend, in order of preference; NULL-terminated. */
extern const struct backend *const backend_table[];

/** backend_find() - by name; NULL when there is none. */
const struct backend *backend_find(const char *name);

/** backend_vm_close() - close the descriptors (not the machine). */
void backend_vm_close(struct backend_vm *vm);

extern const struct backend backend_qemu;

#endif
