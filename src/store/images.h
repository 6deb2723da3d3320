/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of images, their names, and what they were imported from.
 */
#ifndef STORE_IMAGES_H
#define STORE_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

struct smolvm;

#define STORE_ID_LEN 71 /* "sha256:" and 64 hexadecimal digits */

/**
 * struct store_image - one record.
 * @config: the image configuration, NUL-terminated; @config_len without the NUL.
 * @names:  in order, NULL-terminated.
 * @path:   its EROFS file.
 * @intact: the file is there and has the length that it had.
 */
struct store_image {
	char id[STORE_ID_LEN + 1];
	int64_t created_s;
	uint64_t size_bytes;
	char *config;
	size_t config_len;
	char **names;
	char *path;
	bool intact;
};

/** store_image_fini() - free what is in it; all zeroes are fine. */
void store_image_fini(struct store_image *image);

/* Each of these: 1 with *@ret filled in (store_image_fini() it), 0 when there is no such image,
 * or a negative errno. */
int store_image_by_id(struct smolvm *s, const char *id, struct store_image *ret,
		      struct smolvm_error *err);
int store_image_by_name(struct smolvm *s, const char *name, struct store_image *ret,
			struct smolvm_error *err);
/** store_image_by_prefix() - @prefix: "sha256:" and some digits; -EINVAL when several fit. */
int store_image_by_prefix(struct smolvm *s, const char *prefix, struct store_image *ret,
			  struct smolvm_error *err);

/**
 * struct store_source - what an image was imported from.
 * @place: which source it was ("file:/some/path").
 * @state: what would be different if it had changed.
 * @names: what it calls its image, one a line.
 */
struct store_source {
	const char *place;
	const char *state;
	const char *names;
};

/**
 * store_image_by_source() - the image that @source (its @place and @state) was imported as.
 * @ret_names: the source's @names, the caller's to free().
 */
int store_image_by_source(struct smolvm *s, const struct store_source *source,
			  struct store_image *ret, char **ret_names, struct smolvm_error *err);

/**
 * store_image_list() - every image, newest first.
 * @ret: an array, each to be fini'ed, then the array freed. Return: how many, or -errno.
 */
ssize_t store_image_list(struct smolvm *s, struct store_image **ret, struct smolvm_error *err);

/**
 * struct store_commit - what an import leaves.
 * @id, @config, @config_len: of the image.
 * @temp_path, @size_bytes: its EROFS file, complete and synced, to be renamed into its place;
 *          NULL when the image is in the store already.
 * @names:  further names, one a line, valid ones.
 * @source: what to remember it by; @source.place NULL: nothing.
 */
struct store_commit {
	const char *id;
	const char *config;
	size_t config_len;
	const char *temp_path;
	uint64_t size_bytes;
	const char *names;
	struct store_source source;
};

/**
 * store_image_commit() - make all of it true, or nothing.
 *
 * When @source.place was another image until now, which has no name left and no other source, that
 * one is forgotten with it; its file goes with the next store_images_collect().
 *
 * If another import was quicker, its file stays and @temp_path is left for the caller to unlink,
 * which it does in any case. Errors: -ENOSPC, -EROFS, -ENOENT (no @temp_path, and the image has
 * been removed meanwhile), -EIO, ...
 */
int store_image_commit(struct smolvm *s, const struct store_commit *commit,
		       struct smolvm_error *err);

/**
 * store_image_unname() - forget a name, and with the last one of its image the image.
 *
 * Return: how many names the image has left, or a negative errno (-ENOENT: no such name).
 */
int store_image_unname(struct smolvm *s, const char *name, struct smolvm_error *err);

/** store_image_remove() - the record, then the file. */
int store_image_remove(struct smolvm *s, const char *id, struct smolvm_error *err);

/** store_images_collect() - remove files of images/ that no record speaks of. */
void store_images_collect(struct smolvm *s);

#endif
