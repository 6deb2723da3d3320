/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image that is embedded in the program: a tar made by tools/mkbase.py.
 */
#ifndef IMAGE_BASE_H
#define IMAGE_BASE_H

#include <stddef.h>

#include "image/tar.h"

/** struct base - it, and how much of it has been read. */
struct base {
	size_t done;
};

/** base_id() - its id, known when the program was built. */
const char *base_id(void);

/** base_config() - its configuration, whose digest the id is. */
const char *base_config(void);

/** base_source() - its only layer, to be read once from @b, which is all zeroes. */
struct tar_source base_source(struct base *b);

#endif
