/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted table of address ranges.
 */
#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

/* The first range that ends behind @addr. */
static unsigned int bus_search(const struct bus *b, uint64_t addr)
{
	unsigned int low = 0, high = b->n_ranges;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (addr - b->ranges[mid].base < b->ranges[mid].bytes ||
		    addr < b->ranges[mid].base)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

int bus_add(struct bus *b, const struct bus_range *range)
{
	unsigned int at = bus_search(b, range->base);

	if (!range->bytes || range->base + range->bytes < range->base)
		return -EINVAL;
	if (b->n_ranges == BUS_RANGES_MAX)
		return -ENOSPC;
	if (at < b->n_ranges && b->ranges[at].base < range->base + range->bytes)
		return -EEXIST;
	memmove(&b->ranges[at + 1], &b->ranges[at], (b->n_ranges - at) * sizeof(*range));
	b->ranges[at] = *range;
	b->n_ranges++;
	return 0;
}

bool bus_dispatch(const struct bus *b, const struct hv_exit *e)
{
	unsigned int at = bus_search(b, e->addr);
	const struct bus_range *r = &b->ranges[at];
	struct bus_access a = { .write = e->write, .size = e->size, .count = e->count,
				.data = e->data };

	if (!e->write)
		memset(e->data, 0xff, (size_t)e->size * e->count);
	if (at == b->n_ranges || e->addr < r->base)
		return false;
	a.offset = e->addr - r->base;
	if (e->size > r->bytes - a.offset)
		return false;
	r->access(r->ctx, &a);
	return true;
}
