/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in the making: its parts, and where contents of files go.
 *
 * Contents are written to the image as they are read, from block 1 on; those of small files are
 * spooled. What a later layer hides is punched out again. The tree stays in memory, and becomes the
 * metadata behind the data when all layers have been applied (erofs.c).
 */
#include "image/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/erofs.h"
#include "image/rootfs_priv.h"

/* Where holes cannot be punched, zeroes: an image is the same bytes on every file system. */
static void erase(int fd, uint64_t pos, uint64_t len)
{
	static const char zeroes[64u << 10];

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)pos, (off_t)len) == 0)
		return;
	while (len > 0) {
		size_t n = len < sizeof(zeroes) ? (size_t)len : sizeof(zeroes);

		if (fd_pwrite_all(fd, zeroes, n, (off_t)pos) < 0)
			return;
		pos += n;
		len -= n;
	}
}

/* tree.h: an inode is gone. Its contents go too; best effort, for they are unreachable anyway. */
static void dropped(void *ctx, const struct inode *i)
{
	struct rootfs *r = ctx;
	uint64_t pos = i->file.pos * OUT_BLOCK;

	if (!S_ISREG(i->mode) || i->place != PLACE_BLOCKS)
		return;
	if (pos + i->file.size > r->data.base && out_flush(&r->data, NULL) < 0)
		return;
	erase(r->fd, pos, (i->file.size + OUT_BLOCK - 1) / OUT_BLOCK * OUT_BLOCK);
}

static void set_limits(struct rootfs *r, const struct rootfs_limits *limits)
{
	if (limits)
		r->limits = *limits;
	if (!r->limits.inodes || r->limits.inodes > ROOTFS_INODES_MAX)
		r->limits.inodes = ROOTFS_INODES_MAX;
	if (!r->limits.data_bytes)
		r->limits.data_bytes = ROOTFS_DATA_BYTES_MAX;
	if (!r->limits.meta_bytes || r->limits.meta_bytes > ROOTFS_META_BYTES_MAX)
		r->limits.meta_bytes = ROOTFS_META_BYTES_MAX;
	r->budget.left = r->limits.meta_bytes;
}

int rootfs_create(struct rootfs **ret, int fd, const char *spool_dir,
		  const struct rootfs_limits *limits, struct smolvm_error *err)
{
	struct rootfs *r = calloc(1, sizeof(*r));
	struct stat st;
	int rc;

	if (!r)
		return err_nomem(err);
	r->fd = fd;
	r->spool.fd = -1;
	set_limits(r, limits);
	rc = tree_init(&r->tree, &r->budget, r->limits.inodes);
	if (rc < 0) {
		rc = rootfs_fail(r, rc, err);
		goto fail;
	}
	r->tree.dropped = dropped;
	r->tree.dropped_ctx = r;
	r->xattrs.arena = &r->tree.arena;
	rc = fstat(fd, &st) < 0 ? err_sys(err, "the new image") : 0;
	if (!rc && st.st_size != 0)
		rc = err_set(err, EINVAL, "the file for the new image is not empty");
	if (!rc)
		rc = out_init(&r->data, fd, OUT_BLOCK, r->limits.data_bytes, err);
	if (!rc)
		rc = spool_init(&r->spool, spool_dir, err);
	if (rc < 0)
		goto fail;
	*ret = r;
	return 0;
fail:
	rootfs_destroy(r);
	return rc;
}

void rootfs_destroy(struct rootfs *r)
{
	if (!r)
		return;
	tree_fini(&r->tree);
	out_fini(&r->data);
	spool_fini(&r->spool);
	free(r);
}

int rootfs_fail(const struct rootfs *r, int code, struct smolvm_error *err)
{
	if (code == -ELOOP)
		return err_set(err, EINVAL, "more than %u directories in each other",
			       TREE_DEPTH_MAX);
	if (code == -EFBIG && r->tree.n_inodes >= r->tree.max_inodes)
		return err_set(err, EFBIG, "the image has more than %llu files",
			       (unsigned long long)r->tree.max_inodes);
	if (code == -EFBIG)
		return err_set(err, EFBIG, "names and attributes take more than %llu bytes",
			       (unsigned long long)r->limits.meta_bytes);
	return err_nomem(err);
}

int rootfs_next_layer(struct rootfs *r, struct smolvm_error *err)
{
	if (r->layer >= ROOTFS_LAYERS_MAX)
		return err_set(err, EFBIG, "the image has more than %u layers", ROOTFS_LAYERS_MAX);
	r->layer++;
	return 0;
}

int rootfs_file_begin(struct rootfs *r, uint32_t inode, uint64_t size,
		      struct smolvm_error *err)
{
	struct inode *i = tree_inode(&r->tree, inode);

	if (size > ROOTFS_LOGICAL_BYTES_MAX - r->logical)
		return err_set(err, EFBIG, "the files come to more than %llu GiB",
			       ROOTFS_LOGICAL_BYTES_MAX >> 30);
	r->logical += size;
	r->file = inode;
	r->file_size = size;
	r->file_done = 0;
	i->file.size = size;
	if (size > 0 && size <= sizeof(r->small)) {
		i->place = PLACE_SPOOL;
	} else if (size > 0) {
		i->place = PLACE_BLOCKS;
		i->file.pos = out_position(&r->data) / OUT_BLOCK;
	}
	return 0;
}

static int fill(struct rootfs *r, uint64_t n, struct smolvm_error *err)
{
	int rc = 0;

	if (r->file_size > sizeof(r->small))
		rc = out_zeroes(&r->data, n, err);
	else
		memset(r->small + r->file_done, 0, n);
	r->file_done += n;
	return rc;
}

int rootfs_file_write(struct rootfs *r, uint64_t offset, const void *data, size_t len,
		      struct smolvm_error *err)
{
	int rc;

	if (offset < r->file_done || offset > r->file_size || len > r->file_size - offset)
		return err_set(err, EINVAL, "contents that do not fit the file's size");
	rc = offset > r->file_done ? fill(r, offset - r->file_done, err) : 0;
	if (rc < 0)
		return rc;
	if (r->file_size > sizeof(r->small))
		rc = out_write(&r->data, data, len, err);
	else
		memcpy(r->small + offset, data, len);
	r->file_done += len;
	return rc;
}

int rootfs_file_end(struct rootfs *r, struct smolvm_error *err)
{
	struct inode *i = tree_inode(&r->tree, r->file);
	int rc = fill(r, r->file_size - r->file_done, err);

	if (rc < 0)
		return rc;
	if (i->place == PLACE_SPOOL)
		return spool_add(&r->spool, r->small, r->file_size, &i->file.pos, err);
	return out_pad(&r->data, OUT_BLOCK, err);
}

int rootfs_symlink(struct rootfs *r, uint32_t inode, const char *target, size_t len,
		   struct smolvm_error *err)
{
	struct inode *i = tree_inode(&r->tree, inode);

	if (len == 0 || len > ROOTFS_SYMLINK_MAX)
		return err_set(err, EINVAL, "a symbolic link with a target of %zu bytes", len);
	i->link.target = arena_add(&r->tree.arena, target, len);
	if (!i->link.target)
		return rootfs_fail(r, -errno, err);
	i->link.len = (uint32_t)len;
	return 0;
}

int rootfs_finish(struct rootfs *r, uint64_t *ret_bytes, struct smolvm_error *err)
{
	struct erofs_source source = {
		.fd = r->fd,
		.tree = &r->tree,
		.xattrs = &r->xattrs,
		.spool = &r->spool,
	};
	int rc = out_flush(&r->data, err);

	if (!rc)
		rc = spool_seal(&r->spool, err);
	if (rc < 0)
		return rc;
	source.meta_block = out_position(&r->data) / OUT_BLOCK;
	return erofs_write(&source, ret_bytes, err);
}
