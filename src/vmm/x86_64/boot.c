/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading an x86 kernel: the file, the initramfs behind it at the top of low memory, and below
 * 1 MiB what tells the kernel about the machine.
 *
 * PVH (an ELF kernel with the note): start_info, a memory map, the initramfs as the only module.
 * Otherwise boot_params, as Linux's 64-bit boot protocol wants it: with page tables that map the
 * first 4 GiB to themselves. Both: a GDT, the command line, the MP table.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "virtio/mmio.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/load.h"

#define PAGE	  4096ull
#define HUGE_PAGE (2ull << 20)

const struct arch_layout arch_layout = {
	.low_bytes = LAYOUT_LOW_BYTES,
	.high_gpa = LAYOUT_HIGH_GPA,
	.mmio_base = LAYOUT_MMIO,
};

unsigned int arch_irq(unsigned int index)
{
	/* One line each as far as they go, then shared; the clock's is not to be shared. */
	unsigned int gsi = LAYOUT_GSI_DEVICES + index % (LAYOUT_GSIS - LAYOUT_GSI_DEVICES - 1);

	return gsi < LAYOUT_GSI_RTC ? gsi : gsi + 1;
}

/* Linux's CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES. */
int arch_describe(struct cmdline *c, unsigned int index, struct smolvm_error *err)
{
	char parameter[64];

	snprintf(parameter, sizeof(parameter), "virtio_mmio.device=4K@0x%llx:%u",
		 LAYOUT_MMIO + (unsigned long long)index * VIRTIO_MMIO_BYTES, arch_irq(index));
	return cmdline_add(c, parameter, err);
}

/* ---- files ---------------------------------------------------------------------------------- */

/*
 * A kernel's text is all there from the beginning, and stays: in huge pages it costs the host a
 * handful of page faults in place of thousands, and no memory. A hint; nothing is written.
 */
static void ask_for_huge_pages(const struct gmem *mem, uint64_t gpa, uint64_t bytes)
{
	uint64_t begin = gpa & ~(HUGE_PAGE - 1);
	uint64_t end = (gpa + bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	void *p = bytes >= HUGE_PAGE ? gmem_slice(mem, begin, end - begin) : NULL;

	if (p)
		madvise(p, end - begin, MADV_HUGEPAGE);
}

int kernel_read(const struct kernel *k, uint64_t offset, uint64_t gpa, uint64_t bytes,
		struct smolvm_error *err)
{
	void *to = gmem_slice(k->mem, gpa, bytes);
	ssize_t n;

	if (!to)
		return err_set(err, E2BIG, "the kernel does not fit into the guest's memory");
	if (offset > k->bytes || bytes > k->bytes - offset)
		return err_set(err, ENOEXEC, "the kernel is truncated: its file has %llu bytes, "
			       "%llu are needed", (unsigned long long)k->bytes,
			       (unsigned long long)offset + bytes);
	ask_for_huge_pages(k->mem, gpa, bytes);
	n = fd_pread_full(k->fd, to, bytes, (off_t)offset);
	if (n < 0)
		return err_set(err, EIO, "cannot read the kernel: %s", strerror((int)-n));
	if ((uint64_t)n != bytes)
		return err_set(err, ENOEXEC, "the kernel's file was cut short while it was read");
	return 0;
}

static int open_kernel(struct kernel *k, const struct arch_boot *boot, struct smolvm_error *err)
{
	struct stat st;
	ssize_t n;

	k->fd = boot->kernel_fd;
	k->mem = boot->mem;
	k->initramfs_max = k->cmdline_max = UINT64_MAX;
	if (fstat(k->fd, &st))
		return err_sys(err, "cannot read the kernel");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "the kernel is not a regular file");
	if (!st.st_size)
		return err_set(err, ENOEXEC, "the kernel is an empty file");
	k->bytes = (uint64_t)st.st_size;
	n = fd_pread_full(k->fd, k->head, sizeof(k->head), 0);
	if (n < 0)
		return err_set(err, EIO, "cannot read the kernel: %s", strerror((int)-n));
	k->head_bytes = (unsigned int)n;
	return 0;
}

/* Files that are taken for kernels. */
static const struct {
	unsigned int offset, bytes;
	const char *magic, *text;
} others[] = {
	{ 0x38, 4, "ARM\x64", "it is for arm64, this machine is x86_64" },
	{ 0, 2, "\x1f\x8b", "it is compressed with gzip; give the vmlinux itself, or a bzImage" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first" },
	{ 0, 6, "\xfd" "7zXZ\0", "it is compressed with xz; unpack it first" },
};

static int not_a_kernel(const struct kernel *k, struct smolvm_error *err)
{
	const char *text = "it is neither an ELF vmlinux nor a bzImage";

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (k->head_bytes >= others[i].offset + others[i].bytes &&
		    memcmp(k->head + others[i].offset, others[i].magic, others[i].bytes) == 0)
			text = others[i].text;
	return err_set(err, ENOEXEC, "this kernel cannot be started: %s", text);
}

static int load_kernel(struct kernel *k, const struct arch_boot *boot, struct smolvm_error *err)
{
	int r = open_kernel(k, boot, err);

	if (r)
		return r;
	if (elf_is(k))
		return elf_load(k, err);
	if (bzimage_is(k))
		return bzimage_load(k, err);
	return not_a_kernel(k, err);
}

/* As high as possible in low memory. Return: its address in *@ret. */
static int load_initramfs(const struct kernel *k, const struct arch_boot *boot, uint64_t *ret,
			  struct smolvm_error *err)
{
	uint64_t top = k->mem->regions[0].bytes, bytes = boot->initramfs_bytes;
	void *to;

	*ret = 0;
	if (!bytes)
		return 0;
	if (top > k->initramfs_max)
		top = k->initramfs_max + 1;
	if (top < bytes || ((top - bytes) & ~(PAGE - 1)) < k->end)
		return err_set(err, E2BIG, "the initramfs of %zu bytes does not fit into the "
			       "guest's memory behind the kernel; give it more memory",
			       boot->initramfs_bytes);
	*ret = (top - bytes) & ~(PAGE - 1);
	to = gmem_slice(k->mem, *ret, bytes);
	if (!to)
		return err_set(err, E2BIG, "the initramfs does not fit into the guest's memory");
	memcpy(to, boot->initramfs, bytes);
	return 0;
}

/* ---- tables --------------------------------------------------------------------------------- */

enum { MAP_RAM = 1, MAP_RESERVED = 2 };
#define MAP_ENTRIES_MAX (2 + GMEM_REGIONS_MAX)

struct map_entry {
	uint64_t gpa, bytes;
	uint32_t type;
};

static unsigned int memory_map(const struct gmem *mem, struct map_entry *map)
{
	unsigned int n = 0;

	map[n++] = (struct map_entry){ 0, LAYOUT_LOW_END, MAP_RAM };
	map[n++] = (struct map_entry){ LAYOUT_LOW_END, LAYOUT_KERNEL_MIN - LAYOUT_LOW_END,
				       MAP_RESERVED };
	map[n++] = (struct map_entry){ LAYOUT_KERNEL_MIN,
				       mem->regions[0].bytes - LAYOUT_KERNEL_MIN, MAP_RAM };
	for (unsigned int i = 1; i < mem->n_regions; i++)
		map[n++] = (struct map_entry){ mem->regions[i].gpa, mem->regions[i].bytes,
					       MAP_RAM };
	return n;
}

/* Flat segments from 0 to 4 GiB, a code segment for the mode, and an empty task state. */
static void write_gdt(uint8_t *p, enum hv_entry entry)
{
	put_le64(p + 0x10, entry == HV_ENTRY_LINUX64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff);
	put_le64(p + 0x18, 0x00cf93000000ffff);
	put_le64(p + 0x20, 0x00008b000000ffff);
}
#define GDT_BYTES 0x30

/* 4 GiB, each address to itself, in pages of 2 MiB: one PML4, one PDPT, four page directories. */
static void write_page_tables(uint8_t *p, uint64_t gpa)
{
	enum { PRESENT_WRITE = 0x3, LARGE = 0x80 };

	put_le64(p, (gpa + PAGE) | PRESENT_WRITE);
	for (unsigned int i = 0; i < 4; i++)
		put_le64(p + PAGE + i * 8, (gpa + (2 + i) * PAGE) | PRESENT_WRITE);
	for (uint64_t i = 0; i < 4 * 512; i++)
		put_le64(p + 2 * PAGE + i * 8, i << 21 | PRESENT_WRITE | LARGE);
}

/* Xen's public/arch-x86/hvm/start_info.h, version 1. */
static void write_start_info(uint8_t *p, const struct arch_boot *boot, uint64_t initramfs)
{
	enum { MODULE = 0x40, MAP = 0x80, MAP_ENTRY = 24 };
	struct map_entry map[MAP_ENTRIES_MAX];
	unsigned int n = memory_map(boot->mem, map);

	put_le32(p, 0x336ec578);
	put_le32(p + 4, 1);
	if (initramfs) {
		put_le32(p + 12, 1);
		put_le64(p + 16, LAYOUT_START_INFO + MODULE);
		put_le64(p + MODULE, initramfs);
		put_le64(p + MODULE + 8, boot->initramfs_bytes);
	}
	put_le64(p + 24, LAYOUT_CMDLINE);
	put_le64(p + 40, LAYOUT_START_INFO + MAP);
	put_le32(p + 48, n);
	for (unsigned int i = 0; i < n; i++) {
		put_le64(p + MAP + i * MAP_ENTRY, map[i].gpa);
		put_le64(p + MAP + i * MAP_ENTRY + 8, map[i].bytes);
		put_le32(p + MAP + i * MAP_ENTRY + 16, map[i].type);
	}
}

/* struct boot_params, Documentation/arch/x86/zero-page.rst. */
static void write_boot_params(uint8_t *p, const struct kernel *k, const struct arch_boot *boot,
			      uint64_t initramfs)
{
	enum { E820_ENTRIES = 0x1e8, HEADER = 0x1f1, BOOT_FLAG = 0x1fe, MAGIC = 0x202,
	       VERSION = 0x206, LOADER = 0x210, LOADFLAGS = 0x211, RAMDISK = 0x218,
	       RAMDISK_SIZE = 0x21c, CMDLINE = 0x228, ALIGNMENT = 0x230, CMDLINE_SIZE = 0x238,
	       E820 = 0x2d0, E820_ENTRY = 20 };
	struct map_entry map[MAP_ENTRIES_MAX];
	unsigned int n = memory_map(boot->mem, map);

	if (k->setup) {
		memcpy(p + HEADER, k->setup, k->setup_bytes);
	} else {
		put_le16(p + BOOT_FLAG, 0xaa55);
		memcpy(p + MAGIC, "HdrS", 4);
		put_le16(p + VERSION, 0x20c);
		put_le32(p + ALIGNMENT, 0x1000000);
		put_le32(p + CMDLINE_SIZE, SMOLVM_VMM_CMDLINE_MAX);
	}
	p[LOADER] = 0xff;
	p[LOADFLAGS] |= 1;
	put_le32(p + RAMDISK, (uint32_t)initramfs);
	put_le32(p + RAMDISK_SIZE, (uint32_t)(initramfs ? boot->initramfs_bytes : 0));
	put_le32(p + CMDLINE, LAYOUT_CMDLINE);
	p[E820_ENTRIES] = (uint8_t)n;
	for (unsigned int i = 0; i < n; i++) {
		put_le64(p + E820 + i * E820_ENTRY, map[i].gpa);
		put_le64(p + E820 + i * E820_ENTRY + 8, map[i].bytes);
		put_le32(p + E820 + i * E820_ENTRY + 16, map[i].type);
	}
}

int arch_load(const struct arch_boot *boot, struct hv_boot *ret, struct smolvm_error *err)
{
	uint8_t *low = gmem_slice(boot->mem, 0, LAYOUT_KERNEL_MIN);
	struct kernel k = { .fd = -1 };
	size_t cmdline_bytes = strlen(boot->cmdline);
	uint64_t initramfs;
	int r;

	if (!low || boot->mem->regions[0].bytes <= LAYOUT_KERNEL_MIN)
		return err_set(err, E2BIG, "the guest's memory is too small for any kernel");
	r = load_kernel(&k, boot, err);
	if (r == 0)
		r = load_initramfs(&k, boot, &initramfs, err);
	if (r)
		return r;
	if (cmdline_bytes > SMOLVM_VMM_CMDLINE_MAX || cmdline_bytes > k.cmdline_max)
		return err_set(err, E2BIG, "this kernel takes no command line of %zu bytes",
			       cmdline_bytes);
	memcpy(low + LAYOUT_CMDLINE, boot->cmdline, cmdline_bytes + 1);
	write_gdt(low + LAYOUT_GDT, k.entry);
	mptable_write(low + LAYOUT_MPTABLE, LAYOUT_MPTABLE, boot->cpus);
	*ret = (struct hv_boot){ .entry = k.entry, .ip = k.ip, .gdt = LAYOUT_GDT,
				 .gdt_bytes = GDT_BYTES, .argument = LAYOUT_START_INFO };
	if (k.entry == HV_ENTRY_PVH) {
		write_start_info(low + LAYOUT_START_INFO, boot, initramfs);
		return 0;
	}
	write_boot_params(low + LAYOUT_BOOT_PARAMS, &k, boot, initramfs);
	write_page_tables(low + LAYOUT_PAGE_TABLE, LAYOUT_PAGE_TABLE);
	ret->argument = LAYOUT_BOOT_PARAMS;
	ret->page_table = LAYOUT_PAGE_TABLE;
	return 0;
}
