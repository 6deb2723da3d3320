/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading gzip streams with their checksums verified: the only user of zlib.
 */
#ifndef IMAGE_GZIP_H
#define IMAGE_GZIP_H

#include <stddef.h>
#include <sys/types.h>

#include <smolvm/error.h>

#include "image/tar.h"

struct gzip;

/**
 * gzip_open() - begin.
 * @source: where compressed bytes come from; copied, @source->skip is not used.
 *
 * Return: 0 or -ENOMEM.
 */
int gzip_open(struct gzip **ret, const struct tar_source *source, struct smolvm_error *err);
void gzip_close(struct gzip *g);

/**
 * gzip_read() - the next decompressed bytes; the form is that of struct tar_source.
 *
 * Members that follow each other are one stream (RFC 1952 §2.2); what follows the last one and
 * is no gzip member is ignored. Return: the length, 0 at the end, -EINVAL (damaged, truncated), the
 * source's errors.
 */
ssize_t gzip_read(struct gzip *g, const void **ret_block, struct smolvm_error *err);

#endif
