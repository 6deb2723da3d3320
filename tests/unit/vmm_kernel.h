/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel files of a few bytes, for tests of the loader and of machines.
 */
#ifndef TESTS_VMM_KERNEL_H
#define TESTS_VMM_KERNEL_H

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

#define KERNEL_GPA 0x1000000u
#define KERNEL_IP  0x1000010u
#define KERNEL_BIG (KERNEL_GPA + 0x10000u) /* address of a second segment */

/*
 * struct elf_file - an ELF kernel as it lies in its file: headers, a segment of 64 bytes with
 * @memsz 4096, and a PVH note. A test changes what it wants to be wrong.
 */
struct elf_file {
	Elf64_Ehdr h;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr h;
		char name[4];
		uint64_t entry;
	} xen;
	uint8_t code[64];
};

static inline struct elf_file elf_file(void)
{
	struct elf_file f = {
		.h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		       .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		       .e_entry = KERNEL_GPA + 1, .e_phoff = offsetof(struct elf_file, load),
		       .e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2 },
		.load = { .p_type = PT_LOAD, .p_offset = offsetof(struct elf_file, code),
			  .p_paddr = KERNEL_GPA, .p_filesz = sizeof(f.code), .p_memsz = 4096 },
		.note = { .p_type = PT_NOTE, .p_offset = offsetof(struct elf_file, xen),
			  .p_filesz = sizeof(f.xen), .p_align = 4 },
		.xen = { .h = { .n_namesz = 4, .n_descsz = 8, .n_type = 18 }, .name = "Xen",
			 .entry = KERNEL_IP },
	};

	for (unsigned int i = 0; i < sizeof(f.code); i++)
		f.code[i] = (uint8_t)(i + 1);
	return f;
}

/* Offsets of a bzImage's setup header. */
enum {
	BZ_SETUP_SECTS = 0x1f1,
	BZ_SYSSIZE = 0x1f4,
	BZ_BOOT_FLAG = 0x1fe,
	BZ_JUMP = 0x200,
	BZ_MAGIC = 0x202,
	BZ_VERSION = 0x206,
	BZ_LOADER = 0x210,
	BZ_INITRD_MAX = 0x22c,
	BZ_XLOADFLAGS = 0x236,
	BZ_CMDLINE_SIZE = 0x238,
	BZ_PREF_ADDRESS = 0x258,
	BZ_INIT_SIZE = 0x260,
};

/* Two sectors of setup code and 1 KiB of kernel, each byte 0x5a. */
struct bz_file {
	uint8_t b[1024 + 1024];
};

static inline void bz_put(struct bz_file *f, unsigned int at, unsigned int bytes, uint64_t v)
{
	memcpy(f->b + at, &v, bytes);
}

static inline struct bz_file bz_file(void)
{
	struct bz_file f = { { 0 } };

	bz_put(&f, BZ_SETUP_SECTS, 1, 1);
	bz_put(&f, BZ_SYSSIZE, 4, 1024 / 16);
	bz_put(&f, BZ_BOOT_FLAG, 2, 0xaa55);
	bz_put(&f, BZ_JUMP, 2, 0x6aeb);
	memcpy(f.b + BZ_MAGIC, "HdrS", 4);
	bz_put(&f, BZ_VERSION, 2, 0x20f);
	bz_put(&f, BZ_INITRD_MAX, 4, 0x7fffffff);
	bz_put(&f, BZ_XLOADFLAGS, 2, 3);
	bz_put(&f, BZ_CMDLINE_SIZE, 4, 2047);
	bz_put(&f, BZ_PREF_ADDRESS, 8, KERNEL_GPA);
	bz_put(&f, BZ_INIT_SIZE, 4, 0x100000);
	memset(f.b + 1024, 0x5a, 1024);
	return f;
}

/* A file of these bytes; abort() where that fails. */
static inline int kernel_fd(const void *data, size_t bytes)
{
	int fd = fd_memfd("kernel");

	if (fd < 0 || fd_pwrite_all(fd, data, bytes, 0) < 0)
		abort();
	return fd;
}

#endif
