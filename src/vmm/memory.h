/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a machine: reserved as one piece, mapped as one or two regions.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stdbool.h>

#include <smolvm/error.h>

#include "virtio/gmem.h"

/**
 * struct memory - RAM of the host, as the guest sees it.
 * @gmem: what devices and the loader use.
 * @fd:   a memfd that holds it, or -1.
 * @map, @map_bytes: the reservation, for memory_fini(); more than the RAM, for its alignment.
 */
struct memory {
	struct gmem gmem;
	int fd;
	void *map;
	size_t map_bytes;
};

/**
 * memory_init() - reserve @mib MiB; a page is taken from the host when it is first touched.
 * @low_bytes:  how much lies at guest physical address 0; the rest begins at @high_gpa.
 * @huge_pages: ask for transparent huge pages.
 * @shared:     in a memfd.
 *
 * Return: 0, -ENOMEM, or what making the memfd gave.
 */
int memory_init(struct memory *m, unsigned int mib, uint64_t low_bytes, uint64_t high_gpa,
		bool huge_pages, bool shared, struct smolvm_error *err);
void memory_fini(struct memory *m);

#endif
