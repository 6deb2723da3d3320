/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device and a driver by script (virtio_script.h); the device's own operation changes the
 * file's size. Whatever comes, the file never grows beyond what the disk was.
 */
#include <assert.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "virtio/pool.h"
#include "virtio_script.h"

#define BYTES (96u * 512 + 100)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The workers stay, for speed. */
static struct pool *workers(void)
{
	static struct smolvm_vmm_counters counters;
	static struct virtio_env env = { .counters = &counters, .name = "fuzz" };

	if (!env.pool && pool_ref(&env, NULL) < 0)
		abort();
	return env.pool;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smolvm_vmm_disk config = { .queues = 2 };
	struct virtio_device *d;
	struct stat st;
	struct vs s;
	int fd = fd_memfd("disk"), op;

	assert(fd >= 0 && ftruncate(fd, BYTES) == 0);
	config.fd = dup(fd);
	config.unsafe_cache = size && data[0] & 16;
	config.read_only = size && (data[0] & 96) == 96;
	vs_begin(&s, data, size, workers());
	assert(blk_create(&d, &s.env, &config, NULL) == 0);
	vs_attach(&s, d);
	while ((op = vs_step(&s)) >= 0)
		if (op == 7)
			assert(ftruncate(fd, (off_t)(vs_take(&s, 2) % BYTES)) == 0);
	vs_end(&s);
	assert(fstat(fd, &st) == 0 && st.st_size <= BYTES);
	close(fd);
	return 0;
}
