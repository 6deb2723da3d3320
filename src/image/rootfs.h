/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers become one root file system in one EROFS file.
 */
#ifndef IMAGE_ROOTFS_H
#define IMAGE_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "image/tar.h"

struct rootfs;

/**
 * struct rootfs_limits - beyond these an image is refused with -EFBIG. All zeroes: the defaults
 * (ROOTFS_*_MAX).
 */
struct rootfs_limits {
	uint64_t inodes;
	uint64_t data_bytes; /* file contents written, holes not counted */
	uint64_t meta_bytes; /* memory for names, links and attributes */
};

#define ROOTFS_INODES_MAX     (8u << 20)
#define ROOTFS_DATA_BYTES_MAX (1ull << 40)
#define ROOTFS_META_BYTES_MAX (2ull << 30)

/* All files together, holes included: a small archive can claim any size. */
#define ROOTFS_LOGICAL_BYTES_MAX (1ull << 40)

/**
 * rootfs_create() - begin.
 * @fd:        an empty file, open for reading and writing; stays the caller's.
 * @spool_dir: where a temporary file may be made (and is removed at once).
 */
int rootfs_create(struct rootfs **ret, int fd, const char *spool_dir,
		  const struct rootfs_limits *limits, struct smolvm_error *err);
void rootfs_destroy(struct rootfs *r);

/**
 * rootfs_add_layer() - apply a layer on top of those before, reading @t to its end once.
 * @whiteouts: names beginning with ".wh." remove what is below (OCI image-spec layer.md);
 *             else they are ordinary names (a plain root file system).
 *
 * A path never leaves the root: "..", absolute paths and links on the way are refused or read
 * inside it. Errors: -EINVAL (with the entry's name), -EFBIG, -ENOSPC, -ENOMEM, and the source's.
 */
int rootfs_add_layer(struct rootfs *r, struct tar *t, bool whiteouts, struct smolvm_error *err);

/**
 * rootfs_add_tree() - take over a directory of the host as it is; sockets are left out.
 * @dir_fd: stays the caller's.
 *
 * Owners are kept when the caller is root; otherwise what belongs to the caller becomes root's.
 * Errors: as above, -EACCES for what cannot be read.
 */
int rootfs_add_tree(struct rootfs *r, int dir_fd, struct smolvm_error *err);

/**
 * rootfs_finish() - write the metadata. @fd is then a file system image; fsync is the caller's.
 * @ret_bytes: its length. The same layers give the same bytes.
 */
int rootfs_finish(struct rootfs *r, uint64_t *ret_bytes, struct smolvm_error *err);

#endif
