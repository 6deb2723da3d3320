/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bus: which handler a port, or an address without memory behind it, belongs to.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/hv.h"

#define BUS_RANGES_MAX 64u

/**
 * struct bus_access - what the guest does. A read's handler fills @data in.
 * @offset: from the range's beginning; all @size bytes of it are inside.
 * @count:  accesses of @size bytes each, one after the other in @data.
 */
struct bus_access {
	uint64_t offset;
	bool write;
	unsigned int size, count;
	uint8_t *data;
};

/**
 * struct bus_range - @bytes at @base are @access's. Called in any vCPU's thread.
 */
struct bus_range {
	uint64_t base, bytes;
	void (*access)(void *ctx, const struct bus_access *a);
	void *ctx;
};

/** struct bus - ranges by address; constant once the machine runs. */
struct bus {
	struct bus_range ranges[BUS_RANGES_MAX];
	unsigned int n_ranges;
};

/** bus_add() - Return: 0, -ENOSPC, -EEXIST (it overlaps another one), -EINVAL (it is empty). */
int bus_add(struct bus *b, const struct bus_range *range);

/** bus_dispatch() - do an exit's access. What is nobody's reads as all ones. Return: somebody's. */
bool bus_dispatch(const struct bus *b, const struct hv_exit *e);

#endif
