/* SPDX-License-Identifier: Apache-2.0 */
/* Guest physical addresses to pointers. */
#include "virtio/gmem.h"

void *gmem_slice(const struct gmem *m, uint64_t gpa, uint64_t bytes)
{
	for (unsigned int i = 0; i < m->n_regions; i++) {
		const struct gmem_region *r = &m->regions[i];
		uint64_t offset = gpa - r->gpa;

		if (gpa >= r->gpa && offset < r->bytes)
			return bytes && bytes <= r->bytes - offset ? r->hva + offset : NULL;
	}
	return NULL;
}
