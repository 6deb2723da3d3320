/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of images, their names, and what they were imported from.
 *
 * A file gets its place in images/ inside the transaction that records it, and is removed inside
 * one that has found no record. Transactions exclude each other, so a file of images/ is either
 * recorded or left over from a crash, and nobody removes what another is about to record.
 */
#include "store/images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "store/db.h"
#include "store/store.h"

#define IMAGE_COLUMNS "id, created_s, size_bytes, config"
#define IMAGES_MAX    100000
#define NAMES_MAX     10000
#define FILE_SUFFIX   ".erofs"
#define HEX_LEN       64

void store_image_fini(struct store_image *image)
{
	for (char **name = image->names; name && *name; name++)
		free(*name);
	free(image->names);
	free(image->config);
	free(image->path);
	*image = (struct store_image){ 0 };
}

static char *file_of(const struct smolvm *s, const char *id)
{
	char *path;

	return asprintf(&path, "%s/%s" FILE_SUFFIX, s->images_dir,
			id + strlen("sha256:")) < 0 ? NULL : path;
}

static int read_names(struct smolvm *s, struct store_image *image, struct smolvm_error *err)
{
	struct db_query *q;
	size_t n = 0;
	int rc = db_prepare(s->db, &q, err, "SELECT name FROM names WHERE image = ? "
			    "ORDER BY name", "s", image->id);

	if (rc < 0)
		return rc;
	image->names = calloc(1, sizeof(*image->names));
	while (image->names && (rc = db_step(q, err)) == 1 && n < NAMES_MAX) {
		char **more = reallocarray(image->names, n + 2, sizeof(*more));

		if (!more)
			break;
		image->names = more;
		more[n] = strdup(db_text(q, 0));
		more[n + 1] = NULL;
		if (!more[n++])
			break;
	}
	db_finish(q);
	if (rc < 0)
		return rc;
	return !image->names || (rc == 1 && n < NAMES_MAX) ? err_nomem(err) : 0;
}

/* Fills in everything from the current row of @q, whose columns are IMAGE_COLUMNS. */
static int read_row(struct smolvm *s, struct db_query *q, struct store_image *ret,
		    struct smolvm_error *err)
{
	struct store_image image = { 0 };
	const char *id = db_text(q, 0);
	const void *config;
	struct stat st;
	int rc;

	if (!id || strlen(id) != STORE_ID_LEN)
		return err_set(err, EINVAL, "the database in %s holds an image without a proper "
			       "id", s->home);
	memcpy(image.id, id, sizeof(image.id));
	image.created_s = db_int(q, 1);
	image.size_bytes = (uint64_t)db_int(q, 2);
	config = db_blob(q, 3, &image.config_len);
	image.config = calloc(1, image.config_len + 1);
	image.path = file_of(s, id);
	if (image.config && config)
		memcpy(image.config, config, image.config_len);
	rc = image.config && image.path ? read_names(s, &image, err) : err_nomem(err);
	if (rc < 0) {
		store_image_fini(&image);
		return rc;
	}
	image.intact = image.path && stat(image.path, &st) == 0 && S_ISREG(st.st_mode) &&
		       (uint64_t)st.st_size == image.size_bytes;
	*ret = image;
	return 1;
}

/* The one row that a prepared query gives; ends the query. */
static int read_one(struct smolvm *s, struct db_query *q, struct store_image *ret,
		    struct smolvm_error *err)
{
	int rc = db_step(q, err);

	if (rc == 1)
		rc = read_row(s, q, ret, err);
	db_finish(q);
	return rc;
}

int store_image_by_id(struct smolvm *s, const char *id, struct store_image *ret,
		      struct smolvm_error *err)
{
	struct db_query *q;
	int rc = db_prepare(s->db, &q, err,
			    "SELECT " IMAGE_COLUMNS " FROM images WHERE id = ?", "s", id);

	return rc < 0 ? rc : read_one(s, q, ret, err);
}

int store_image_by_name(struct smolvm *s, const char *name, struct store_image *ret,
			struct smolvm_error *err)
{
	struct db_query *q;
	int rc = db_prepare(s->db, &q, err, "SELECT " IMAGE_COLUMNS " FROM images WHERE id = "
			    "(SELECT image FROM names WHERE name = ?)", "s", name);

	return rc < 0 ? rc : read_one(s, q, ret, err);
}

int store_image_by_prefix(struct smolvm *s, const char *prefix, struct store_image *ret,
			  struct smolvm_error *err)
{
	char end[STORE_ID_LEN + 2];
	struct db_query *q;
	int rc;

	if (strlen(prefix) > STORE_ID_LEN)
		return 0;
	/* 'g' comes after every digit. */
	snprintf(end, sizeof(end), "%sg", prefix);
	rc = db_prepare(s->db, &q, err, "SELECT " IMAGE_COLUMNS " FROM images "
			"WHERE id >= ? AND id < ? LIMIT 2", "ss", prefix, end);
	if (rc < 0)
		return rc;
	rc = db_step(q, err);
	if (rc == 1)
		rc = read_row(s, q, ret, err);
	if (rc == 1 && db_step(q, NULL) == 1) {
		store_image_fini(ret);
		rc = err_set(err, EINVAL, "several images have an id that begins with %s: give "
			     "more of its digits", prefix + strlen("sha256:"));
	}
	db_finish(q);
	return rc;
}

int store_image_by_source(struct smolvm *s, const struct store_source *source,
			  struct store_image *ret, char **ret_names, struct smolvm_error *err)
{
	struct db_query *q;
	int rc = db_prepare(s->db, &q, err, "SELECT " IMAGE_COLUMNS ", sources.names FROM sources "
			    "JOIN images ON images.id = sources.image WHERE place = ? AND "
			    "state = ?", "ss", source->place, source->state);
	char *names = NULL;

	if (rc < 0)
		return rc;
	rc = db_step(q, err);
	if (rc == 1) {
		const char *text = db_text(q, 4);

		names = strdup(text ? text : "");
		rc = names ? read_row(s, q, ret, err) : err_nomem(err);
	}
	db_finish(q);
	if (rc == 1)
		*ret_names = names;
	else
		free(names);
	return rc;
}

ssize_t store_image_list(struct smolvm *s, struct store_image **ret, struct smolvm_error *err)
{
	struct store_image *images = NULL;
	struct db_query *q;
	size_t n = 0;
	int rc = db_prepare(s->db, &q, err, "SELECT " IMAGE_COLUMNS " FROM images "
			    "ORDER BY created_s DESC, rowid DESC", "");

	if (rc < 0)
		return rc;
	while (n < IMAGES_MAX && (rc = db_step(q, err)) == 1) {
		struct store_image *more = reallocarray(images, n + 1, sizeof(*more));

		rc = more ? 0 : err_nomem(err);
		if (more) {
			images = more;
			rc = read_row(s, q, &images[n], err);
		}
		if (rc < 0)
			break;
		n++;
	}
	db_finish(q);
	if (rc < 0) {
		while (n > 0)
			store_image_fini(&images[--n]);
		free(images);
		return rc;
	}
	*ret = images;
	return (ssize_t)n;
}

static int set_names(struct smolvm *s, const char *id, const char *names, struct smolvm_error *err)
{
	AUTO_FREE char *copy = NULL;
	char *save = NULL;
	int rc = 0;

	if (!names)
		return 0;
	copy = strdup(names);
	if (!copy)
		return err_nomem(err);
	for (char *name = strtok_r(copy, "\n", &save); name && rc >= 0;
	     name = strtok_r(NULL, "\n", &save))
		rc = db_run(s->db, err, "INSERT INTO names(name, image) VALUES(?, ?) "
			    "ON CONFLICT(name) DO UPDATE SET image = excluded.image", "ss", name,
			    id);
	return rc < 0 ? rc : 0;
}

/* The name of a file that is new in a folder lasts when the folder is on disk. */
static void sync_folder(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		fsync(fd);
}

static int place_file(struct smolvm *s, const struct store_commit *c, const char *path,
		      struct smolvm_error *err)
{
	if (rename(c->temp_path, path) < 0)
		return err_sys(err, "cannot put the image in its place, %s", path);
	sync_folder(s->images_dir);
	return db_run(s->db, err, "INSERT INTO images(" IMAGE_COLUMNS ") VALUES(?, ?, ?, ?) "
		      "ON CONFLICT(id) DO UPDATE SET created_s = excluded.created_s, "
		      "size_bytes = excluded.size_bytes, config = excluded.config", "siib", c->id,
		      (int64_t)time(NULL), (int64_t)c->size_bytes, c->config, c->config_len);
}

/*
 * The image that @c's source was until now, unless it is kept by a name or by another source: that
 * would never be asked for again. Its file goes when the transaction has ended.
 */
static int drop_predecessor(struct smolvm *s, const struct store_commit *c,
			    struct smolvm_error *err)
{
	const char *place = c->source.place;

	return db_run(s->db, err,
		      "DELETE FROM images WHERE id = (SELECT image FROM sources WHERE place = ?) "
		      "AND id <> ? "
		      "AND NOT EXISTS (SELECT 1 FROM names WHERE image = images.id) "
		      "AND NOT EXISTS (SELECT 1 FROM sources WHERE image = images.id "
		      "AND place <> ?)",
		      "sss", place, c->id, place);
}

static int commit_all(struct smolvm *s, const struct store_commit *c, const char *path,
		      bool *ret_placed, struct smolvm_error *err)
{
	struct store_image old = { 0 };
	int rc = store_image_by_id(s, c->id, &old, err);
	bool have = rc == 1 && old.intact;

	store_image_fini(&old);
	if (rc < 0)
		return rc;
	if (!have && !c->temp_path)
		return err_set(err, ENOENT, "the image was removed meanwhile");
	if (!have) {
		*ret_placed = rc == 0;
		rc = place_file(s, c, path, err);
		if (rc < 0)
			return rc;
	}
	rc = set_names(s, c->id, c->names, err);
	if (rc < 0 || !c->source.place)
		return rc;
	rc = drop_predecessor(s, c, err);
	if (rc < 0)
		return rc;
	rc = db_run(s->db, err, "INSERT INTO sources(place, state, names, image) "
		    "VALUES(?, ?, ?, ?) ON CONFLICT(place) DO UPDATE SET state = excluded.state, "
		    "names = excluded.names, image = excluded.image", "ssss", c->source.place,
		    c->source.state, c->source.names ? c->source.names : "", c->id);
	return rc < 0 ? rc : 0;
}

int store_image_commit(struct smolvm *s, const struct store_commit *c, struct smolvm_error *err)
{
	AUTO_FREE char *path = file_of(s, c->id);
	bool placed = false;
	int rc;

	if (!path)
		return err_nomem(err);
	rc = store_need_write(s, "record an image", err);
	if (rc == 0)
		rc = db_begin(s->db, err);
	if (rc < 0)
		return rc;
	rc = commit_all(s, c, path, &placed, err);
	if (rc == 0)
		rc = db_commit(s->db, err);
	if (rc < 0) {
		if (placed)
			unlink(path);
		db_rollback(s->db);
	}
	return rc;
}

/* Return: how many names the image has left, or a negative errno. The caller has begun. */
static int drop_name(struct smolvm *s, const char *name, struct smolvm_error *err)
{
	struct store_image image = { 0 };
	int left = 0;
	int rc = store_image_by_name(s, name, &image, err);

	if (rc == 0)
		return err_set(err, ENOENT, "there is no image with the name %s", name);
	if (rc < 0)
		return rc;
	while (image.names && image.names[left])
		left++;
	if (--left > 0)
		rc = db_run(s->db, err, "DELETE FROM names WHERE name = ?", "s", name);
	else
		rc = db_run(s->db, err, "DELETE FROM images WHERE id = ?", "s", image.id);
	store_image_fini(&image);
	return rc < 0 ? rc : left;
}

int store_image_unname(struct smolvm *s, const char *name, struct smolvm_error *err)
{
	int rc = store_need_write(s, "forget a name", err);
	int left;

	if (rc == 0)
		rc = db_begin(s->db, err);
	if (rc < 0)
		return rc;
	left = drop_name(s, name, err);
	rc = left < 0 ? left : db_commit(s->db, err);
	if (rc < 0) {
		db_rollback(s->db);
		return rc;
	}
	if (left == 0)
		store_images_collect(s);
	return left;
}

/* Removes files of images/ without a record. The caller has begun. */
static void unlink_orphans(struct smolvm *s)
{
	DIR *d = opendir(s->images_dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char id[STORE_ID_LEN + 1];
		struct store_image image = { 0 };

		if (strlen(e->d_name) != HEX_LEN + strlen(FILE_SUFFIX) ||
		    strcmp(e->d_name + HEX_LEN, FILE_SUFFIX) != 0)
			continue;
		snprintf(id, sizeof(id), "sha256:%.*s", HEX_LEN, e->d_name);
		if (store_image_by_id(s, id, &image, NULL) == 0)
			unlinkat(dirfd(d), e->d_name, 0);
		store_image_fini(&image);
	}
	if (d)
		closedir(d);
}

int store_image_remove(struct smolvm *s, const char *id, struct smolvm_error *err)
{
	int rc = store_need_write(s, "remove an image", err);

	if (rc == 0)
		rc = db_run(s->db, err, "DELETE FROM images WHERE id = ?", "s", id);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return err_set(err, ENOENT, "there is no image with the id %s", id);
	/* If this is cut short, the next one finds the file. */
	store_images_collect(s);
	return 0;
}

void store_images_collect(struct smolvm *s)
{
	if (s->read_only || db_begin(s->db, NULL) < 0)
		return;
	unlink_orphans(s);
	db_rollback(s->db);
}
