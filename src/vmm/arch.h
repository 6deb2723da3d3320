/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between processors: where memory and devices lie, how a kernel is loaded and told
 * of them, and what is there besides. One folder for each; the build takes one.
 */
#ifndef VMM_ARCH_H
#define VMM_ARCH_H

#include <smolvm/error.h>

#include "hypervisor/hv.h"
#include "virtio/gmem.h"
#include "vmm/cmdline.h"

struct smolvm_vmm;

/**
 * struct arch_layout - addresses of the guest's physical memory.
 * @low_bytes: as much RAM as this lies at 0; the rest at @high_gpa.
 * @mmio_base: the first device's registers; the others follow.
 */
struct arch_layout {
	uint64_t low_bytes, high_gpa, mmio_base;
};

extern const struct arch_layout arch_layout;

/** arch_irq() - the interrupt line of device @index. */
unsigned int arch_irq(unsigned int index);

/**
 * struct arch_boot - a kernel to load.
 * @cmdline: complete; the kernel's own.
 */
struct arch_boot {
	const struct gmem *mem;
	int kernel_fd;
	const void *initramfs;
	size_t initramfs_bytes;
	const char *cmdline;
	unsigned int cpus;
};

/**
 * arch_load() - put the kernel, the initramfs and the tables that describe the machine into
 * memory, which is all zeroes.
 *
 * Return: 0 with *@ret filled in; -ENOEXEC (no kernel, a damaged one, one for another machine),
 * -E2BIG (it does not fit, or the initramfs does not), -EINVAL, -EIO.
 */
int arch_load(const struct arch_boot *boot, struct hv_boot *ret, struct smolvm_error *err);

/** arch_describe() - tell the kernel of a device by its command line, where that is the way. */
int arch_describe(struct cmdline *c, unsigned int index, struct smolvm_error *err);

/** arch_ports() - the platform's own devices: serial port, reset, power. Return: 0 or -errno. */
int arch_ports(struct smolvm_vmm *vmm);

#endif
