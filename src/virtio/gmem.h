/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the only way from a guest physical address to a pointer.
 */
#ifndef VIRTIO_GMEM_H
#define VIRTIO_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEM_REGIONS_MAX 4

/**
 * struct gmem - the RAM of a machine; constant once made.
 * @shared:  it is a file that others may have mapped, too.
 * @regions: @bytes at guest physical address @gpa are the host's at @hva; they do not overlap.
 */
struct gmem {
	struct gmem_region {
		uint64_t gpa, bytes;
		uint8_t *hva;
	} regions[GMEM_REGIONS_MAX];
	unsigned int n_regions;
	bool shared;
};

/**
 * gmem_slice() - @bytes (1 or more) of guest memory at @gpa.
 *
 * Return: where they are, or NULL unless all of them lie inside one region. No sum overflows.
 */
void *gmem_slice(const struct gmem *m, uint64_t gpa, uint64_t bytes);

#endif
