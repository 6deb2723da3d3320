/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: one reservation, aligned so that the host can back it with huge pages; anonymous, or
 * a file without a name where others are to share it.
 */
#include "vmm/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

#define HUGE_BYTES (2ull << 20)

/* Put a memfd of @bytes at @base. Return: 0 or -errno. */
static int map_file(struct memory *m, uint8_t *base, uint64_t bytes)
{
	m->fd = fd_memfd("guest");
	if (m->fd < 0)
		return m->fd;
	if (ftruncate(m->fd, (off_t)bytes) < 0 ||
	    mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		 m->fd, 0) == MAP_FAILED)
		return -errno;
	m->gmem.shared = true;
	return 0;
}

int memory_init(struct memory *m, unsigned int mib, uint64_t low_bytes, uint64_t high_gpa,
		bool huge_pages, bool shared, struct smolvm_error *err)
{
	uint64_t bytes = (uint64_t)mib << 20;
	uint64_t low = bytes < low_bytes ? bytes : low_bytes;
	uint8_t *base;
	int rc;

	memset(m, 0, sizeof(*m));
	m->fd = -1;
	m->map = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->map == MAP_FAILED) {
		m->map = NULL;
		return err_set(err, ENOMEM, "cannot reserve %u MiB of memory for the guest: %s; "
			       "give it less, or raise the limit on address space (ulimit -v)",
			       mib, strerror(errno));
	}
	m->map_bytes = bytes + HUGE_BYTES;
	base = (uint8_t *)(((uintptr_t)m->map + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	rc = shared ? map_file(m, base, bytes) : 0;
	if (rc < 0) {
		memory_fini(m);
		return err_set(err, -rc, "cannot make a file of %u MiB for the guest's memory: %s",
			       mib, strerror(-rc));
	}
	/* The guest's secrets have no place in a core file; and it would be large. */
	madvise(m->map, m->map_bytes, MADV_DONTDUMP);
	if (huge_pages)
		madvise(m->map, m->map_bytes, MADV_HUGEPAGE);
	m->gmem.regions[0] = (struct gmem_region){ .gpa = 0, .bytes = low, .hva = base };
	m->gmem.n_regions = 1;
	if (bytes > low) {
		m->gmem.regions[1] = (struct gmem_region){ .gpa = high_gpa, .bytes = bytes - low,
							   .hva = base + low };
		m->gmem.n_regions = 2;
	}
	return 0;
}

void memory_fini(struct memory *m)
{
	if (m->map)
		munmap(m->map, m->map_bytes);
	fd_close(&m->fd);
	memset(m, 0, sizeof(*m));
	m->fd = -1;
}
