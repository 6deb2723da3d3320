/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata of an EROFS image.
 */
#ifndef IMAGE_EROFS_H
#define IMAGE_EROFS_H

#include <stdint.h>

#include <smolvm/error.h>

#include "image/spool.h"
#include "image/tree.h"
#include "image/xattrs.h"

/**
 * struct erofs_source - what is to be written.
 * @fd:         the image, with the contents of files already in it.
 * @tree:       used up by the writing: only tree_fini() may follow.
 * @meta_block: first block behind the contents.
 */
struct erofs_source {
	int fd;
	struct tree *tree;
	const struct xattrs *xattrs;
	struct spool *spool;
	uint64_t meta_block;
};

/**
 * erofs_write() - write inodes, directories and the superblock; set the file's length.
 *
 * Errors: -EFBIG (2^32 blocks), -ENOMEM, those of writing.
 */
int erofs_write(const struct erofs_source *source, uint64_t *ret_bytes, struct smolvm_error *err);

#endif
