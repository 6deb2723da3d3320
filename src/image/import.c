/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing: from a source to a record and a file of the store.
 *
 * The layers are streamed once, through a digest, into a temporary file of the store that becomes
 * the image's root file system. Nothing is visible until the last step, which renames the file and
 * commits its record together; a temporary file that nobody holds is removed by the next
 * smolvm_open(). Each source keeps one image alive: the one it was imported as last. An earlier one
 * goes with the commit, unless it has a name or another source. Work is avoided at two points: a
 * source that looks unchanged is looked up by its looks, and an image whose id turns out to be in
 * the store is not read any further.
 */
#include "image/import.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/base.h"
#include "image/bundle.h"
#include "image/digest.h"
#include "image/fingerprint.h"
#include "image/name.h"
#include "image/oci.h"
#include "image/plan.h"
#include "image/rootfs.h"
#include "image/source.h"
#include "store/lock.h"
#include "store/store.h"

/* The embedded image as a source; the others are absolute paths. */
#define BASE_PLACE "embedded"

/**
 * struct import - one under way.
 * @names: those that the source gives.
 * @place, @state: how it is remembered (struct store_source); @place NULL: not at all.
 * @temp_path, @temp_fd: the file under construction; NULL and -1 where none is needed.
 */
struct import {
	struct smolvm *s;
	const struct smolvm_import_options *options;
	struct meter meter;
	struct name_list names;
	char *place;
	char state[160];
	char id[DIGEST_LEN + 1];
	const char *config;
	size_t config_len;
	char *temp_path;
	int temp_fd;
	struct rootfs *rootfs;
	uint64_t size_bytes;
};

static void import_fini(struct import *im)
{
	rootfs_destroy(im->rootfs);
	if (im->temp_path)
		unlink(im->temp_path); /* unless it has been renamed */
	fd_close(&im->temp_fd);
	free(im->temp_path);
	free(im->place);
	name_list_fini(&im->names);
}

/* --- the store's side --- */

static int begin_rootfs(struct import *im, struct smolvm_error *err)
{
	int rc = store_need_write(im->s, "import an image", err);

	if (rc < 0)
		return rc;
	rc = temp_create(im->s->tmp_dir, &im->temp_path, &im->temp_fd);
	if (rc < 0)
		return err_set(err, -rc, "cannot make a file in %s: %s", im->s->tmp_dir,
			       strerror(-rc));
	return rootfs_create(&im->rootfs, im->temp_fd, im->s->tmp_dir, NULL, err);
}

static int finish_rootfs(struct import *im, struct smolvm_error *err)
{
	int rc = rootfs_finish(im->rootfs, &im->size_bytes, err);

	if (rc < 0)
		return rc;
	rootfs_destroy(im->rootfs);
	im->rootfs = NULL;
	if (fsync(im->temp_fd) < 0)
		return err_sys(err, "cannot write %s", im->temp_path);
	return 0;
}

/* Is it in the store, whole? Return: 1, 0 or a negative errno. */
static int have_image(struct import *im, struct smolvm_error *err)
{
	struct store_image old = { 0 };
	int rc = store_image_by_id(im->s, im->id, &old, err);
	bool intact = rc == 1 && old.intact;

	store_image_fini(&old);
	return rc < 0 ? rc : intact;
}

static int all_names(struct import *im, struct name_list *ret, struct smolvm_error *err)
{
	const char *p = im->names.text;
	int rc = im->options->name ? name_list_add(ret, im->options->name, err) : 0;

	while (rc == 0 && p && *p) {
		char name[NAME_LEN_MAX + 1];
		size_t n = strcspn(p, "\n");

		snprintf(name, sizeof(name), "%.*s", (int)n, p);
		rc = name_list_add(ret, name, err);
		p += n + (p[n] == '\n');
	}
	return rc;
}

static int commit(struct import *im, struct store_image *ret, struct smolvm_error *err)
{
	struct name_list names = { 0 };
	struct store_commit c = {
		.id = im->id, .config = im->config, .config_len = im->config_len,
		.temp_path = im->temp_path, .size_bytes = im->size_bytes,
		.source = { im->place, im->state, im->names.text },
	};
	int rc = all_names(im, &names, err);

	c.names = names.text;
	if (rc == 0)
		rc = store_image_commit(im->s, &c, err);
	name_list_fini(&names);
	if (rc < 0)
		return rc;
	store_images_collect(im->s);
	rc = store_image_by_id(im->s, im->id, ret, err);
	return rc == 0 ? err_set(err, ENOENT, "the image was removed meanwhile") : rc < 0 ? rc : 0;
}

/* --- a source seen before --- */

static bool has_names(const struct store_image *image, const struct name_list *names)
{
	const char *p = names->text;

	while (p && *p) {
		size_t n = strcspn(p, "\n");
		char **have = image->names;

		while (*have && (strlen(*have) != n || memcmp(*have, p, n) != 0))
			have++;
		if (!*have)
			return false;
		p += n + 1;
	}
	return true;
}

/* Return: 1 with *@ret filled in when it has been imported and has not changed, 0, or -errno. */
static int recall(struct import *im, struct store_image *ret, struct smolvm_error *err)
{
	const struct store_source source = { im->place, im->state, NULL };
	struct store_image image = { 0 };
	struct name_list names = { 0 };
	char *text = NULL;
	int rc;

	if (!im->place)
		return 0;
	rc = store_image_by_source(im->s, &source, &image, &text, err);
	if (rc != 1 || !image.intact) {
		store_image_fini(&image);
		free(text);
		return rc < 0 ? rc : 0;
	}
	name_list_fini(&im->names);
	im->names = (struct name_list){ .text = text, .len = strlen(text) };
	rc = all_names(im, &names, err);
	if (rc == 0 && !has_names(&image, &names) && (im->options->name || !im->s->read_only)) {
		/* They have moved on since, or there is a further one. */
		struct store_commit c = { .id = image.id, .names = names.text };

		rc = store_image_commit(im->s, &c, err);
		if (rc == 0) {
			char id[STORE_ID_LEN + 1];

			memcpy(id, image.id, sizeof(id));
			store_image_fini(&image);
			rc = store_image_by_id(im->s, id, &image, err);
			rc = rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
		}
	}
	name_list_fini(&names);
	if (rc < 0) {
		store_image_fini(&image);
		return rc == -ENOENT ? 0 : rc;
	}
	*ret = image;
	return 1;
}

/* --- layers --- */

static int check_layer_digest(const struct plan_layer *layer, const char *got, bool plain,
			      struct smolvm_error *err)
{
	const char *want = *layer->digest ? layer->digest : plain ? layer->diff_id : got;

	if (strcmp(want, got) == 0 && plain && strcmp(got, layer->diff_id) != 0)
		want = layer->diff_id;
	if (strcmp(want, got) == 0)
		return 0;
	return err_set(err, EBADMSG, "the layer %s is damaged: its digest is %s and should be %s",
		       layer->path, got, want);
}

static int read_layer(struct import *im, const struct plan_layer *layer,
		      const struct bundle_file *f, struct smolvm_error *err)
{
	char head[512], digest[DIGEST_LEN + 1];
	ssize_t n = fd_pread_full(f->fd, head, f->size < 512 ? (size_t)f->size : 512, f->offset);
	bool plain = n > 0 && bundle_is_plain_tar(head, (size_t)n);
	struct tar_source source;
	struct reader reader;
	struct tar *t = NULL;
	int rc;

	reader_init(&reader, f->fd, f->offset, f->size);
	reader.meter = &im->meter;
	source = reader_source(&reader);
	rc = reader_hash(&reader, err);
	if (rc == 0)
		rc = tar_open(&t, &source, err);
	if (rc == 0)
		rc = rootfs_add_layer(im->rootfs, t, true, err);
	tar_close(t);
	if (rc == 0)
		rc = reader_digest(&reader, digest, err);
	else if (rc == -EINVAL && reader_digest(&reader, digest, NULL) == 0)
		/* What makes no sense is damaged more often than malformed. */
		rc = check_layer_digest(layer, digest, plain, err) < 0 ? -EBADMSG : -EINVAL;
	if (rc == 0)
		rc = check_layer_digest(layer, digest, plain, err);
	else if (rc != -EBADMSG && rc != -ECANCELED)
		err_prefix(err, "layer %s", layer->path);
	reader_fini(&reader);
	return rc;
}

/* Finds every layer, before the first is read. */
static int measure_layers(struct import *im, const struct plan *plan, struct bundle *b,
			  struct smolvm_error *err)
{
	im->meter = (struct meter){ .options = im->options };
	for (size_t i = 0; i < plan->n_layers; i++) {
		const struct plan_layer *layer = &plan->layers[i];
		struct bundle_file f;
		int rc = bundle_find(b, layer->path, &f, err);

		if (rc < 0)
			return rc;
		if (rc == 0)
			return err_set(err, EINVAL, "the layer %s is missing", layer->path);
		bundle_file_close(&f);
		if (layer->size >= 0 && layer->size != f.size)
			return err_set(err, EBADMSG, "the layer %s is damaged: it has %lld bytes, "
				       "not %lld", layer->path, (long long)f.size,
				       (long long)layer->size);
		im->meter.total_bytes += (uint64_t)f.size;
	}
	return 0;
}

static int read_layers(struct import *im, const struct plan *plan, struct bundle *b,
		       struct smolvm_error *err)
{
	int rc = measure_layers(im, plan, b, err);

	if (rc == 0)
		rc = begin_rootfs(im, err);
	for (size_t i = 0; rc == 0 && i < plan->n_layers; i++) {
		struct bundle_file f;

		rc = bundle_find(b, plan->layers[i].path, &f, err);
		if (rc == 1) {
			rc = read_layer(im, &plan->layers[i], &f, err);
			bundle_file_close(&f);
		} else if (rc == 0) {
			rc = err_set(err, EINVAL, "the layer %s has gone", plan->layers[i].path);
		}
	}
	return rc == 0 ? finish_rootfs(im, err) : rc;
}

static int import_bundle(struct import *im, struct bundle *b, const char *tag,
			 struct store_image *ret, struct smolvm_error *err)
{
	struct plan plan;
	int rc = plan_image(&plan, b, tag, err);

	if (rc < 0)
		return rc;
	memcpy(im->id, plan.id, sizeof(im->id));
	im->config = plan.config;
	im->config_len = plan.config_len;
	name_list_fini(&im->names); /* of a record that has gone meanwhile */
	im->names = plan.names;
	plan.names = (struct name_list){ 0 };
	rc = have_image(im, err);
	if (rc == 0)
		rc = read_layers(im, &plan, b, err);
	if (rc >= 0)
		rc = commit(im, ret, err);
	plan_fini(&plan);
	return rc;
}

/* --- root file systems --- */

/* A root file system says nothing of how it is to be run: a shell, with the usual path. */
static char *default_config(const char *content_digest)
{
	char *text;

	return asprintf(&text, "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Env\":["
			"\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"],"
			"\"Cmd\":[\"/bin/sh\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":["
			"\"%s\"]}}", oci_host_architecture(), content_digest) < 0 ? NULL : text;
}

/* Sets the id by what the digest of the content is. */
static int identify(struct import *im, const char *content_digest, char **config,
		    struct smolvm_error *err)
{
	*config = default_config(content_digest);
	if (!*config)
		return err_nomem(err);
	im->config = *config;
	im->config_len = strlen(*config);
	return digest_of(im->config, im->config_len, im->id, err);
}

static int import_tar(struct import *im, const struct source *source, struct store_image *ret,
		      struct smolvm_error *err)
{
	char digest[DIGEST_LEN + 1];
	AUTO_FREE char *config = NULL;
	struct tar_source tar_source;
	struct reader reader;
	struct tar *t = NULL;
	int rc = begin_rootfs(im, err);

	if (rc < 0)
		return rc;
	im->meter = (struct meter){ .options = im->options };
	im->meter.total_bytes = source->stream_fd < 0 ? (uint64_t)source->size : 0;
	source_reader(source, &reader, &im->meter);
	tar_source = reader_source(&reader);
	rc = reader_hash(&reader, err);
	if (rc == 0)
		rc = tar_open(&t, &tar_source, err);
	if (rc == 0)
		rc = rootfs_add_layer(im->rootfs, t, false, err);
	tar_close(t);
	if (rc == 0)
		rc = reader_digest(&reader, digest, err);
	reader_fini(&reader);
	if (rc == 0)
		rc = finish_rootfs(im, err);
	if (rc == 0)
		rc = identify(im, digest, &config, err);
	return rc < 0 ? rc : commit(im, ret, err);
}

static int import_tree(struct import *im, const struct source *source, struct store_image *ret,
		       struct smolvm_error *err)
{
	char digest[DIGEST_LEN + 1];
	AUTO_FREE char *config = NULL;
	int rc = fingerprint_tree(source->fd, digest, err);

	if (rc == 0)
		rc = identify(im, digest, &config, err);
	if (rc < 0)
		return rc;
	memcpy(im->state, im->id, sizeof(im->id));
	rc = recall(im, ret, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = have_image(im, err);
	if (rc == 1 && !im->options->name && im->s->read_only) {
		rc = store_image_by_id(im->s, im->id, ret, err);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	if (rc == 0) {
		rc = begin_rootfs(im, err);
		if (rc == 0)
			rc = rootfs_add_tree(im->rootfs, source->fd, err);
		if (rc == 0)
			rc = finish_rootfs(im, err);
	}
	return rc < 0 ? rc : commit(im, ret, err);
}

/* --- by kind --- */

static int import_layout_dir(struct import *im, const struct source *source,
			     struct store_image *ret, struct smolvm_error *err)
{
	AUTO_FREE char *index = NULL;
	struct bundle *b = NULL;
	size_t len = 0;
	int rc = bundle_open_dir(&b, source->fd, err);

	if (rc < 0)
		return rc;
	/* What the layout holds is determined by its index, which is made of digests. */
	rc = bundle_read(b, "index.json", OCI_JSON_BYTES_MAX, &index, &len, err);
	if (rc == 0)
		rc = digest_of(index, len, im->state, err);
	if (rc == 0)
		rc = recall(im, ret, err);
	if (rc == 0)
		rc = import_bundle(im, b, source->tag, ret, err);
	bundle_close(b);
	return rc < 0 ? rc : 0;
}

static int import_archive(struct import *im, struct source *source, struct store_image *ret,
			  struct smolvm_error *err)
{
	struct bundle *b = NULL;
	int rc = source_keep(source, &im->meter, err);

	if (rc == 0)
		rc = bundle_open_archive(&b, source->fd, source->size, im->s->tmp_dir, &im->meter,
					 err);
	if (rc < 0)
		return rc;
	rc = import_bundle(im, b, source->tag, ret, err);
	bundle_close(b);
	return rc;
}

static int import_file(struct import *im, struct source *source, struct store_image *ret,
		       struct smolvm_error *err)
{
	int rc;

	memcpy(im->state, source->state, sizeof(im->state));
	rc = recall(im, ret, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = source_look(source, &im->meter, err);
	if (rc < 0)
		return rc;
	if (source->kind == SOURCE_ARCHIVE)
		return import_archive(im, source, ret, err);
	if (source->tag)
		return err_set(err, EINVAL, "it is a root file system and has no tag like #%s",
			       source->tag);
	return import_tar(im, source, ret, err);
}

static int remember_by(struct import *im, const struct source *source, struct smolvm_error *err)
{
	if (!source->real)
		return 0;
	if (asprintf(&im->place, "%s%s%s", source->real, source->tag ? "#" : "",
		     source->tag ? source->tag : "") < 0) {
		im->place = NULL;
		return err_nomem(err);
	}
	return 0;
}

int import_source(struct smolvm *s, const char *what, const struct smolvm_import_options *options,
		  struct store_image *ret, struct smolvm_error *err)
{
	struct import im = { .s = s, .options = options, .temp_fd = -1,
			     .meter = { .options = options } };
	struct source source;
	int rc = source_open(&source, what, options->stdin_fd, s->tmp_dir, err);

	if (rc < 0)
		return rc;
	rc = remember_by(&im, &source, err);
	if (rc == 0 && source.kind == SOURCE_LAYOUT_DIR)
		rc = import_layout_dir(&im, &source, ret, err);
	else if (rc == 0 && source.kind == SOURCE_TREE)
		rc = import_tree(&im, &source, ret, err);
	else if (rc == 0)
		rc = import_file(&im, &source, ret, err);
	import_fini(&im);
	if (rc < 0)
		err_prefix(err, "cannot import %s", source.name);
	source_close(&source);
	return rc;
}

int import_base(struct smolvm *s, const struct smolvm_import_options *options,
		struct store_image *ret, struct smolvm_error *err)
{
	struct import im = { .s = s, .options = options, .temp_fd = -1, .config = base_config(),
			     .config_len = strlen(base_config()) };
	struct base base = { 0 };
	struct tar_source source = base_source(&base);
	struct tar *t = NULL;
	int rc;

	assert(strlen(base_id()) == DIGEST_LEN);
	memcpy(im.id, base_id(), sizeof(im.id));
	memcpy(im.state, im.id, sizeof(im.id));
	im.place = strdup(BASE_PLACE);
	if (!im.place)
		return err_nomem(err);
	rc = name_list_add(&im.names, SMOLVM_IMAGE_BASE, err);
	if (rc == 0)
		rc = begin_rootfs(&im, err);
	if (rc == 0)
		rc = tar_open(&t, &source, err);
	if (rc == 0)
		rc = rootfs_add_layer(im.rootfs, t, false, err);
	tar_close(t);
	if (rc == 0)
		rc = finish_rootfs(&im, err);
	if (rc == 0)
		rc = commit(&im, ret, err);
	import_fini(&im);
	if (rc < 0)
		err_prefix(err, "cannot make the image that smolvm carries in itself");
	return rc;
}
