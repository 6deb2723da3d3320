/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as a kernel file: loading it ends, writes nothing but guest memory, and what it says of the
 * entry lies in what it has loaded. The first byte says how large the initramfs is.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmm/arch.h"

#define RAM_BYTES (32u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *ram, *initramfs;
	static int fd = -1;
	struct gmem mem = { .n_regions = 1 };
	struct arch_boot boot = { .mem = &mem, .cmdline = "quiet", .cpus = 3 };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct hv_boot start;
	int r;

	if (!ram) {
		ram = calloc(1, RAM_BYTES);
		initramfs = calloc(256, 1u << 16);
		fd = fd_memfd("kernel");
		assert(ram && initramfs && fd >= 0);
	}
	if (!size)
		return 0;
	assert(ftruncate(fd, 0) == 0 && fd_pwrite_all(fd, data + 1, size - 1, 0) == 0);
	mem.regions[0] = (struct gmem_region){ .bytes = RAM_BYTES, .hva = ram };
	boot.kernel_fd = fd;
	boot.initramfs = initramfs;
	boot.initramfs_bytes = (size_t)data[0] << 16;
	r = arch_load(&boot, &start, &err);
	if (r == 0) {
		assert(start.ip >= 0x100000 && start.ip < RAM_BYTES);
		assert(start.gdt + start.gdt_bytes <= 0x100000);
	} else {
		assert(r == -err.code && err.message[0] && r != -EINVAL);
	}
	return 0;
}
