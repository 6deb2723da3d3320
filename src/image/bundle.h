/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an OCI layout or a "docker save" archive, found by their names, wherever they are:
 * in a directory or in a tar archive, which is not unpacked.
 */
#ifndef IMAGE_BUNDLE_H
#define IMAGE_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "image/reader.h"

#define BUNDLE_ENTRIES_MAX 65536
#define BUNDLE_PATH_MAX    1024
#define BUNDLE_LINKS_MAX   8 /* links that lead to links */

struct bundle;

/** bundle_open_dir() - the files of a directory. @dir_fd stays the caller's, and open. */
int bundle_open_dir(struct bundle **ret, int dir_fd, struct smolvm_error *err);

/**
 * bundle_open_archive() - the files of a tar archive.
 * @fd:   a file of @size bytes that can be read at any offset; stays the caller's, and open.
 * @spool_dir: where the files of a compressed archive are kept, without a name.
 *
 * Errors: -EINVAL (malformed, truncated), -EFBIG, -ENOSPC, -ECANCELED, -ENOMEM, -EIO.
 */
int bundle_open_archive(struct bundle **ret, int fd, int64_t size, const char *spool_dir,
			struct meter *meter, struct smolvm_error *err);
void bundle_close(struct bundle *b);

/** struct bundle_file - where a file's bytes are; bundle_file_close() it. */
struct bundle_file {
	int fd;
	bool owned;
	int64_t offset, size;
};

/**
 * bundle_find() - a regular file by its path; links inside the bundle are followed.
 *
 * Return: 1, 0 when there is none, or a negative errno.
 */
int bundle_find(struct bundle *b, const char *path, struct bundle_file *ret,
		struct smolvm_error *err);
void bundle_file_close(struct bundle_file *f);

/**
 * bundle_read() - all of a file, at most @max bytes, with a NUL added.
 * @ret: the caller's to free(). Errors: -ENOENT, -EFBIG, -EINVAL (truncated), -ENOMEM, -EIO.
 */
int bundle_read(struct bundle *b, const char *path, size_t max, char **ret, size_t *ret_len,
		struct smolvm_error *err);

/** bundle_trim() - an archive's path without "./" and "/" in front. */
const char *bundle_trim(const char *path);

/**
 * bundle_is_plain_tar() - does a tar header stand at the beginning, not compressed?
 * @head: the first @len bytes.
 */
bool bundle_is_plain_tar(const void *head, size_t len);

#endif
