/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading tar archives, in any compression: the only user of libarchive.
 *
 * Names and attributes are bytes, whatever the locale.
 */
#ifndef IMAGE_TAR_H
#define IMAGE_TAR_H

#include <stdbool.h>
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

/**
 * tar_next() - the next header; data of the entry before that was not read is skipped.
 *
 * Return: 1 with *@ret filled in; 0 at the end, the source then having been read to its end too;
 * -EINVAL (malformed, truncated, an owner that does not fit), -EFBIG (far too much behind the end
 * of the archive), -ENOMEM, and the source's errors.
 */
int tar_next(struct tar *t, struct tar_entry *ret, struct smolvm_error *err);

/**
 * tar_data() - the next piece of the current entry's data.
 * @ret_offset: where in the file it belongs; holes between pieces read as zeroes.
 *
 * Return: the length, 0 at the end, -EINVAL. *@ret is valid until the next call. The message does
 * not name the entry; the caller knows it.
 */
ssize_t tar_data(struct tar *t, const void **ret, int64_t *ret_offset, struct smolvm_error *err);

/**
 * tar_complete() - whether the archive was closed by its end mark.
 *
 * To be asked after tar_next() returned 0. Without the mark the archive ends between two entries:
 * either it was truncated just there, or its writer left the mark out.
 */
bool tar_complete(const struct tar *t);

#endif
