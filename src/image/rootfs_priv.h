/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the root file system writer share.
 */
#ifndef IMAGE_ROOTFS_PRIV_H
#define IMAGE_ROOTFS_PRIV_H

#include "image/out.h"
#include "image/rootfs.h"
#include "image/spool.h"
#include "image/tree.h"
#include "image/xattrs.h"

/* Contents up to this size are put beside the inode; beside any inode, in one block with it. */
#define ROOTFS_INLINE_MAX 2048u

#define ROOTFS_SYMLINK_MAX 4095u
#define ROOTFS_LAYERS_MAX  4096u

/* Messages below do not name the file; callers put that in front. */

/**
 * struct rootfs - an image in the making.
 * @layer:   number of the layer being applied, from 1.
 * @logical: bytes of all files so far, holes included.
 * @file:    the regular file being written: @file_size bytes, of which @file_done are there;
 *           @file_begin: first block, or an inline file's contents in @small.
 */
struct rootfs {
	int fd;
	struct rootfs_limits limits;
	struct budget budget;
	struct tree tree;
	struct xattrs xattrs;
	struct out data;
	struct spool spool;
	uint16_t layer;
	uint64_t logical;
	uint32_t file;
	uint64_t file_size, file_done;
	uint8_t small[ROOTFS_INLINE_MAX];
};

/** rootfs_fail() - say what -EFBIG, -ELOOP, -ENOMEM of a tree call mean. Return: @code. */
int rootfs_fail(const struct rootfs *r, int code, struct smolvm_error *err);

/** rootfs_next_layer() - count one more. Return: 0 or -EFBIG. */
int rootfs_next_layer(struct rootfs *r, struct smolvm_error *err);

/**
 * rootfs_file_begin() - the contents of the regular file @inode follow.
 * @size: what they will come to. Errors: -EFBIG.
 */
int rootfs_file_begin(struct rootfs *r, uint32_t inode, uint64_t size,
		      struct smolvm_error *err);

/** rootfs_file_write() - a piece at @offset, behind those before. -EINVAL, -EFBIG, -ENOSPC. */
int rootfs_file_write(struct rootfs *r, uint64_t offset, const void *data, size_t len,
		      struct smolvm_error *err);

/** rootfs_file_end() - no more pieces; what is missing is zeroes. */
int rootfs_file_end(struct rootfs *r, struct smolvm_error *err);

/** rootfs_symlink() - set the target of the symbolic link @inode. */
int rootfs_symlink(struct rootfs *r, uint32_t inode, const char *target, size_t len,
		   struct smolvm_error *err);

#endif
