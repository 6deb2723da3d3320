/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine, from inside the library.
 *
 * Threads: those of the vCPUs, and one for the event loop, which the devices share. What the vCPUs
 * are to do is @want; whoever changes it kicks those that may be in the guest, and waits for
 * @changed. A vCPU looks at @want before each run, and a kick is never lost (hypervisor/hv.h), so
 * none stays in the guest. Lock order: a device's lock is never taken under @lock.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <pthread.h>
#include <stdbool.h>

#include <smolvm/vmm.h>

#include "base/loop.h"
#include "hypervisor/hv.h"
#include "virtio/mmio.h"
#include "vmm/arch.h"
#include "vmm/bus.h"
#include "vmm/memory.h"
#include "vmm/serial.h"

/** enum vmm_want - what vCPUs are to do. */
enum vmm_want {
	VMM_WANT_WAIT, /* not started yet */
	VMM_WANT_RUN,
	VMM_WANT_PAUSE,
	VMM_WANT_STOP,
};

/**
 * struct vcpu - a virtual CPU and its thread.
 * @exits, ...: counters, written by its thread alone; relaxed atomics.
 * @ask:     it is to find out whether it is dead; atomic.
 * @in:      its thread may call vcpu_run(), or does: kick it. Under the machine's lock.
 */
struct vcpu {
	struct smolvm_vmm *vmm;
	struct hv_vcpu *hv;
	unsigned int index;
	pthread_t thread;
	bool has_thread;
	uint64_t exits, exits_by_kind[HV_EXIT_ERROR + 1];
	bool ask;
	bool in;
};

/**
 * struct device - a device of the machine, its registers and its interrupt.
 * @irq_fd: an eventfd that raises @gsi, or -1.
 * @tag: of a shared folder.
 */
struct device {
	struct smolvm_vmm *vmm;
	struct virtio_device *virtio;
	struct virtio_mmio mmio;
	unsigned int gsi;
	int irq_fd;
	char tag[40];
};

/**
 * struct smolvm_vmm - a machine.
 * @config:   as given; its initramfs is the caller's until start(), @kernel_fd our own copy.
 * @cmdline:  the kernel's, with what the devices add.
 * @want:     atomic for reading; written under @lock.
 * @n_running: vCPU threads that have not left for good. @n_held: those of them that are paused.
 * @end_reason: 0 while it has not ended. @exit_fd: readable when @n_running has become 0.
 * @asked:    how many vCPUs in a row have been found dead, see vcpu.c.
 */
struct smolvm_vmm {
	const struct hv_ops *ops;
	struct hv *hv;
	struct smolvm_vmm_config config;
	struct cmdline cmdline;
	struct memory memory;
	struct bus ports, mmio;
	struct serial serial;
	bool has_serial;
	struct virtio_env env;
	struct loop *loop;
	struct device devices[SMOLVM_VMM_DEVICES_MAX];
	unsigned int n_devices;
	struct virtio_device *vsock, *balloon;
	struct vcpu *vcpus;
	bool tried_start;

	pthread_t io_thread;
	bool has_io_thread;
	int quit_fd;
	struct loop_watch quit_watch;
	struct loop_timer tick;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum vmm_want want;
	unsigned int n_running, n_held;
	struct smolvm_vmm_exit end;
	int exit_fd;
	bool asking;
	unsigned int asked;
	uint64_t tick_exits;
	unsigned int tick_s;

	struct smolvm_vmm_counters counters;
	struct smolvm_vmm_timeline timeline;
};

/** vmm_create_on() - smolvm_vmm_create() on any hypervisor. */
int vmm_create_on(const struct hv_ops *ops, struct smolvm_vmm **ret,
		  const struct smolvm_vmm_config *config, struct smolvm_error *err);

/**
 * vmm_add() - put @d into a free slot; destroyed where that fails.
 * Return: 0, -ENOMEM, -EMFILE, and what vmm_can_add() says.
 */
int vmm_add(struct smolvm_vmm *vmm, struct virtio_device *d, struct smolvm_error *err);

/** vmm_can_add() - 0, -EBUSY, -ENOSPC. */
int vmm_can_add(struct smolvm_vmm *vmm, struct smolvm_error *err);

/** device_start() - connect it to the hypervisor, and let it begin. -errno. */
int device_start(struct device *d, struct smolvm_error *err);
/** device_fini() - after virtio_mmio_reset(), when no thread uses it any more. */
void device_fini(struct device *d);

/**
 * vmm_end() - the machine has ended, unless it has already: every vCPU leaves. Any thread, a
 * vCPU's own included; does not wait.
 * @error: positive errno, or 0.
 */
void vmm_end(struct smolvm_vmm *vmm, enum smolvm_vmm_reason reason, int error, const char *text);

/** vcpus_start() - make the threads; they wait. Return: 0 or -errno, with those made left behind.
 */
int vcpus_start(struct smolvm_vmm *vmm, struct smolvm_error *err);

/** vcpus_set() - what they are to do from now on. @lock is held; does not wait. */
void vcpus_set(struct smolvm_vmm *vmm, enum vmm_want want);

/** vcpus_join() - after VMM_WANT_STOP. */
void vcpus_join(struct smolvm_vmm *vmm);

/** vcpus_watch() - begin looking for a machine that is halted for ever, in the event loop. */
void vcpus_watch(struct smolvm_vmm *vmm);

/** vmm_stamp() - the time now into an entry of the timeline, unless it has one. Any thread. */
void vmm_stamp(int64_t *at);

#endif
