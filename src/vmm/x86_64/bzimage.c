/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bzImage: real-mode setup code, which is skipped, and a kernel that unpacks itself, which is
 * entered in 64-bit mode (Linux's Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/load.h"

/* Offsets of the setup header's fields in the file. */
enum {
	AT_SETUP_SECTS = 0x1f1,
	AT_SYSSIZE = 0x1f4,
	AT_BOOT_FLAG = 0x1fe,
	AT_JUMP = 0x200,
	AT_MAGIC = 0x202,
	AT_VERSION = 0x206,
	AT_INITRD_MAX = 0x22c,
	AT_XLOADFLAGS = 0x236,
	AT_CMDLINE_SIZE = 0x238,
	AT_PREF_ADDRESS = 0x258,
	AT_INIT_SIZE = 0x260,
	AT_END = 0x268,
	AT_END_MAX = 0x290, /* what follows in boot_params belongs to others */
};

#define BOOT_FLAG     0xaa55
#define VERSION_MIN   0x20c
#define XLF_KERNEL_64 1
#define ENTRY_64      0x200
#define SECTOR	      512u

bool bzimage_is(const struct kernel *k)
{
	return k->head_bytes >= AT_MAGIC + 4 && get_le16(k->head + AT_BOOT_FLAG) == BOOT_FLAG &&
	       memcmp(k->head + AT_MAGIC, "HdrS", 4) == 0;
}

static int check_header(const struct kernel *k, struct smolvm_error *err)
{
	unsigned int version;

	if (k->head_bytes < AT_END)
		return err_set(err, ENOEXEC,
			       "the kernel is truncated: its setup header is cut off");
	version = get_le16(k->head + AT_VERSION);
	if (version < VERSION_MIN)
		return err_set(err, ENOEXEC, "the kernel is too old: its boot protocol is %u.%02u, "
			       "2.12 is needed (Linux 3.8)", version >> 8, version & 0xff);
	if (!(get_le16(k->head + AT_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(err, ENOEXEC, "the kernel is a 32-bit one; a 64-bit one is needed");
	return 0;
}

int bzimage_load(struct kernel *k, struct smolvm_error *err)
{
	uint64_t at, offset, bytes, need;
	unsigned int end;
	int r = check_header(k, err);

	if (r)
		return r;
	end = AT_MAGIC + k->head[AT_JUMP + 1];
	if (end < AT_END || end > k->head_bytes || end > AT_END_MAX)
		end = AT_END;
	offset = ((k->head[AT_SETUP_SECTS] ? k->head[AT_SETUP_SECTS] : 4u) + 1) * SECTOR;
	bytes = get_le32(k->head + AT_SYSSIZE) * 16ull;
	at = get_le64(k->head + AT_PREF_ADDRESS);
	need = get_le32(k->head + AT_INIT_SIZE);
	if (offset > k->bytes || bytes > k->bytes - offset)
		return err_set(err, ENOEXEC, "the kernel is truncated: %llu bytes of %llu",
			       (unsigned long long)k->bytes, (unsigned long long)(offset + bytes));
	if (bytes <= ENTRY_64 || at < LAYOUT_KERNEL_MIN || at >= LAYOUT_LOW_BYTES)
		return err_set(err, ENOEXEC, "the kernel's setup header is damaged");
	if (need < bytes)
		need = bytes;
	if (!gmem_slice(k->mem, at, need))
		return err_set(err, E2BIG, "the kernel does not fit into the guest's memory: it "
			       "needs %#llx bytes at %#llx", (unsigned long long)need,
			       (unsigned long long)at);
	k->entry = HV_ENTRY_LINUX64;
	k->ip = at + ENTRY_64;
	k->end = at + need;
	k->initramfs_max = get_le32(k->head + AT_INITRD_MAX);
	k->setup = k->head + AT_SETUP_SECTS;
	k->setup_bytes = end - AT_SETUP_SECTS;
	k->cmdline_max = get_le32(k->head + AT_CMDLINE_SIZE);
	return kernel_read(k, offset, at, bytes, err);
}
