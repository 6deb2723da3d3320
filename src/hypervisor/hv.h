/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam to the hypervisor: whose virtual CPUs run the guest.
 *
 * Order: create, map (all memory), vcpu_create (each), vcpu_boot (each), then each vCPU's own
 * thread calls vcpu_run again and again. notify_fd and irq_fd any time before the first run.
 * Exits are normalised; no struct of a hypervisor is seen above this folder.
 */
#ifndef HYPERVISOR_HV_H
#define HYPERVISOR_HV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

struct hv;	/* one virtual machine */
struct hv_vcpu; /* one of its processors */

enum hv_exit_kind {
	HV_EXIT_MMIO,	     /* an access to guest physical memory that is not mapped */
	HV_EXIT_IO,	     /* an access to a port (x86) */
	HV_EXIT_HALT,	     /* halted, where the hypervisor does not keep that to itself */
	HV_EXIT_SHUTDOWN,    /* triple fault */
	HV_EXIT_RESET,	     /* the guest asked the hypervisor for a reset */
	HV_EXIT_POWEROFF,    /* ... or to be switched off */
	HV_EXIT_INTERRUPTED, /* vcpu_kick() */
	HV_EXIT_ERROR,	     /* it cannot go on: @error and @text */
};

/**
 * struct hv_exit - why a vCPU came back.
 * @write: for MMIO and IO: the guest writes. Otherwise the handler fills @data in before the next
 *         run.
 * @addr:  guest physical address, or port.
 * @size:  bytes of one access, 1, 2, 4 or 8; @count: how many of them follow each other in @data
 *         (string I/O to one port); 1 for MMIO.
 * @data:  @size * @count bytes, valid until the next run. All ones, where it is to be filled in.
 * @error, @text: for HV_EXIT_ERROR: positive errno, and a line for a person.
 */
struct hv_exit {
	enum hv_exit_kind kind;
	bool write;
	uint64_t addr;
	unsigned int size, count;
	uint8_t *data;
	int error;
	char text[128];
};

/**
 * struct hv_config - a virtual machine.
 * @kvm_fd: an open /dev/kvm, stays the caller's; 0: it is opened, and closed at once when not
 *          needed any more.
 * @cpus:   how many vcpu_create() will follow.
 * @nested: the guest sees the processor's own virtualization.
 */
struct hv_config {
	int kvm_fd;
	unsigned int cpus;
	bool nested;
};

/** enum hv_entry - in which mode a kernel is entered (x86_64). */
enum hv_entry {
	HV_ENTRY_PVH,	  /* 32-bit protected mode, paging off, ebx = @argument: PVH start info */
	HV_ENTRY_LINUX64, /* 64-bit mode, paging on, rsi = @argument: boot_params */
};

/**
 * struct hv_boot - how the first vCPU begins; the others wait for INIT/SIPI.
 * @ip: entry point; @argument: see enum hv_entry.
 * @page_table: HV_ENTRY_LINUX64: guest physical address of the top-level page table; the loader
 *      has filled it in. @gdt: of a descriptor table: null, null, code at 0x10, data at 0x18, task
 *      state at 0x20 (both kinds of entry; the loader fills it in), @gdt_bytes its size.
 */
struct hv_boot {
	enum hv_entry entry;
	uint64_t ip, argument, page_table, gdt;
	uint32_t gdt_bytes;
};

/**
 * struct hv_ops - a hypervisor. All return 0 or -errno with @err filled in, where there is one.
 * @create:    -ENOENT, -EACCES, -ENODEV, -ENOTSUP (a capability is missing: named), -EINVAL (cpus).
 * @destroy:   no vCPU runs; NULL is fine. Frees the vCPUs too.
 * @cpus_max:  how many vCPUs a machine may have.
 * @map:       @bytes of guest memory at @gpa are the host's at @hva; page-aligned. @slot from 0.
 * @vcpu_create: number @index, from 0. In any thread.
 * @vcpu_boot: the registers that it begins with; @boot NULL: it waits for the others.
 * @vcpu_run:  until something is to be done; fills @ret in. In the vCPU's own thread, always the
 *             same, in which SIGRTMIN + 7 is blocked.
 * @vcpu_kick: make vcpu_run() return HV_EXIT_INTERRUPTED soon, now or the next time; several may be
 *             answered as one. An access that is under way comes out first. Any thread, at any
 *             time, before destroy().
 * @vcpu_dead: whether only another vCPU can ever wake it: it is halted with interrupts off, or has
 *             not been started. In its own thread, between runs.
 * @notify_fd: a 32-bit write of @value to @gpa adds one to the eventfd @fd instead of exiting.
 *             -ENOTSUP: it exits, as ever.
 * @irq_fd:    each addition to the eventfd @fd raises interrupt line @gsi (edge). -ENOTSUP: call
 *             irq() instead.
 * @irq:       raise line @gsi once. Any thread.
 */
struct hv_ops {
	const char *name;
	int (*create)(struct hv **ret, const struct hv_config *config, struct smolvm_error *err);
	void (*destroy)(struct hv *hv);
	unsigned int (*cpus_max)(struct hv *hv);
	int (*map)(struct hv *hv, unsigned int slot, uint64_t gpa, void *hva, uint64_t bytes,
		   struct smolvm_error *err);
	int (*vcpu_create)(struct hv *hv, unsigned int index, struct hv_vcpu **ret,
			   struct smolvm_error *err);
	int (*vcpu_boot)(struct hv_vcpu *vcpu, const struct hv_boot *boot,
			 struct smolvm_error *err);
	void (*vcpu_run)(struct hv_vcpu *vcpu, struct hv_exit *ret);
	void (*vcpu_kick)(struct hv_vcpu *vcpu);
	bool (*vcpu_dead)(struct hv_vcpu *vcpu);
	int (*notify_fd)(struct hv *hv, uint64_t gpa, uint32_t value, int fd);
	int (*irq_fd)(struct hv *hv, unsigned int gsi, int fd);
	void (*irq)(struct hv *hv, unsigned int gsi);
};

/* The signal that calls a vCPU back; see smolvm/vmm.h. */
#define HV_KICK_SIGNAL (SIGRTMIN + 7)

extern const struct hv_ops hv_kvm;

#endif
