/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading tar archives, in any compression: the only user of libarchive.
 */
#ifndef IMAGE_TAR_H
#define IMAGE_TAR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

struct tar;

/**
 * struct tar_source - where the archive's bytes come from.
 * @read: the next bytes: sets *@ret_block (valid until the next call) and returns their number,
 *        0 at the end, or a negative errno with @err filled in.
 * @skip: skip up to @n bytes; returns how many were skipped (0: none can be). May be NULL.
 */
struct tar_source {
	ssize_t (*read)(void *ctx, const void **ret_block, struct smolvm_error *err);
	int64_t (*skip)(void *ctx, int64_t n);
	void *ctx;
};

/**
 * struct tar_entry - one header; strings and arrays are valid until the next tar_next().
 * @path:     as in the archive, unchecked.
 * @mode:     file type (S_IFMT) and permissions. A hard link has @hardlink set and no type.
 * @hardlink, @symlink: targets, else NULL.
 * @size:     bytes of a regular file, holes included.
 * @offset:   where the entry's data begins in the uncompressed archive; -1 when not known.
 * @xattrs:   @n_xattrs names ("user.x", "security.capability", "system.posix_acl_access") with
 *            their values.
 */
struct tar_entry {
	const char *path;
	mode_t mode;
	uint32_t uid, gid;
	int64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	const char *hardlink, *symlink;
	uint32_t rdev_major, rdev_minor;
	int64_t offset;
	struct tar_xattr {
		const char *name;
		const void *value;
		size_t len;
	} *xattrs;
	size_t n_xattrs;
};

/**
 * tar_open() - begin reading.
 * Errors: -EINVAL when it is no tar archive, those of the source, -ENOMEM.
 */
int tar_open(struct tar **ret, const struct tar_source *source, struct smolvm_error *err);
void tar_close(struct tar *t);

/** tar_next() - Return: 1 with *@ret filled in, 0 at the end, -EINVAL (malformed, truncated). */
int tar_next(struct tar *t, struct tar_entry *ret, struct smolvm_error *err);

/**
 * tar_data() - the next piece of the current entry's data.
 * @ret_offset: where in the file it belongs; holes between pieces read as zeroes.
 *
 * Return: the length, 0 at the end, -EINVAL. *@ret is valid until the next call.
 */
ssize_t tar_data(struct tar *t, const void **ret, int64_t *ret_offset, struct smolvm_error *err);

#endif
