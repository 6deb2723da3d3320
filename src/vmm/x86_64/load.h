/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of loading an x86 kernel.
 */
#ifndef VMM_X86_64_LOAD_H
#define VMM_X86_64_LOAD_H

#include "base/endian.h"
#include "vmm/arch.h"

/**
 * struct kernel - a kernel file, and what is known of it once it is loaded.
 * @bytes:  size of the file. @head: its beginning, @head_bytes of it, for the file's headers.
 * @entry, @ip: how and where it is entered.
 * @end:    first address behind it that is free, what it needs to unpack itself included.
 * @initramfs_max: the last address that an initramfs may have.
 * @cmdline_max: characters of a command line that it takes.
 * @setup, @setup_bytes: bzImage: the setup header of the file, to be handed back to the kernel.
 */
struct kernel {
	int fd;
	const struct gmem *mem;
	uint64_t bytes;
	uint8_t head[8192];
	unsigned int head_bytes;
	enum hv_entry entry;
	uint64_t ip, end, initramfs_max;
	const uint8_t *setup;
	unsigned int setup_bytes;
	uint64_t cmdline_max;
};

/** kernel_read() - @bytes of the file at @offset to @gpa. -E2BIG, -ENOEXEC (file ends), -EIO. */
int kernel_read(const struct kernel *k, uint64_t offset, uint64_t gpa, uint64_t bytes,
		struct smolvm_error *err);

/** elf_is(), elf_load() - an ELF file: its segments, then the entry of PVH if it has a note. */
bool elf_is(const struct kernel *k);
int elf_load(struct kernel *k, struct smolvm_error *err);

/** bzimage_is(), bzimage_load() - Linux's own format, Documentation/arch/x86/boot.rst. */
bool bzimage_is(const struct kernel *k);
int bzimage_load(struct kernel *k, struct smolvm_error *err);

/**
 * mptable_write() - Intel MultiProcessor Specification 1.4: processors, one ISA bus, an IOAPIC and
 * its lines. @p: zeroed, MPTABLE_MAX bytes, which the guest sees at @gpa.
 */
#define MPTABLE_MAX 2048u
void mptable_write(uint8_t *p, uint32_t gpa, unsigned int cpus);

#endif
