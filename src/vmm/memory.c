/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: one anonymous reservation, aligned so that the host can back it with huge pages.
 */
#include "vmm/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"

#define HUGE_BYTES (2ull << 20)

int memory_init(struct memory *m, unsigned int mib, uint64_t low_bytes, uint64_t high_gpa,
		bool huge_pages, struct smolvm_error *err)
{
	uint64_t bytes = (uint64_t)mib << 20;
	uint64_t low = bytes < low_bytes ? bytes : low_bytes;
	uint8_t *base;

	memset(m, 0, sizeof(*m));
	m->map = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->map == MAP_FAILED) {
		m->map = NULL;
		return err_set(err, ENOMEM, "cannot reserve %u MiB of memory for the guest: %s; "
			       "give it less, or raise the limit on address space (ulimit -v)",
			       mib, strerror(errno));
	}
	m->map_bytes = bytes + HUGE_BYTES;
	/* The guest's secrets have no place in a core file; and it would be large. */
	madvise(m->map, m->map_bytes, MADV_DONTDUMP);
	if (huge_pages)
		madvise(m->map, m->map_bytes, MADV_HUGEPAGE);
	base = (uint8_t *)(((uintptr_t)m->map + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
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
	memset(m, 0, sizeof(*m));
}
