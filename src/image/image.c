/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: what a person calls one, found in the store or brought into it.
 */
#include <smolvm/smolvm.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/base.h"
#include "image/digest.h"
#include "image/import.h"
#include "image/name.h"
#include "image/oci.h"
#include "image/source.h"
#include "store/images.h"
#include "store/store.h"

#define ID_DIGITS_MIN 6

/* What is behind a struct smolvm_image. */
struct image {
	struct smolvm_image public;
	struct store_image record;
	struct oci_config config;
};

static const struct smolvm_import_options no_options;

/* Takes over @record, also when it fails. */
static int make_image(struct store_image *record, struct smolvm_image **ret,
		      struct smolvm_error *err)
{
	struct image *image = calloc(1, sizeof(*image));
	int rc;

	if (!image) {
		store_image_fini(record);
		return err_nomem(err);
	}
	image->record = *record;
	*record = (struct store_image){ 0 };
	rc = oci_config_parse(&image->config, image->record.config, image->record.config_len, err);
	if (rc < 0) {
		err_prefix(err, "the record of image %s", image->record.id);
		smolvm_image_free(&image->public);
		return rc;
	}
	image->public = (struct smolvm_image){
		.id = image->record.id,
		.names = (const char *const *)image->record.names,
		.created_s = image->record.created_s,
		.size_bytes = image->record.size_bytes,
		.entrypoint = (const char *const *)image->config.entrypoint,
		.cmd = (const char *const *)image->config.cmd,
		.env = (const char *const *)image->config.env,
		.workdir = image->config.workdir,
		.user = image->config.user,
		.stop_signal = image->config.stop_signal,
		.architecture = image->config.architecture,
		.rootfs_path = image->record.path,
	};
	*ret = &image->public;
	return 0;
}

void smolvm_image_free(struct smolvm_image *public)
{
	struct image *image = (struct image *)public; /* its first member */

	if (!image)
		return;
	store_image_fini(&image->record);
	oci_config_fini(&image->config);
	free(image);
}

void smolvm_image_free_list(struct smolvm_image **images, size_t n)
{
	for (size_t i = 0; images && i < n; i++)
		smolvm_image_free(images[i]);
	free(images);
}

/* "sha256:" and digits out of what may be (the beginning of) an id; false when it cannot be. */
static bool id_prefix(const char *what, char ret[DIGEST_LEN + 1])
{
	bool marked = strncmp(what, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) == 0;
	const char *digits = marked ? what + strlen(DIGEST_PREFIX) : what;
	size_t n = strlen(digits);

	if (n < ID_DIGITS_MIN || n > 64 || strspn(digits, "0123456789abcdef") != n)
		return false;
	snprintf(ret, DIGEST_LEN + 1, DIGEST_PREFIX "%s", digits);
	return true;
}

/* By name, then by id. @ret_by_id may be NULL. Return: 1, 0 or a negative errno. */
static int find(struct smolvm *s, const char *what, struct store_image *ret, bool *ret_by_id,
		struct smolvm_error *err)
{
	char name[NAME_LEN_MAX + 1], id[DIGEST_LEN + 1];
	int rc = 0;

	if (ret_by_id)
		*ret_by_id = false;
	if (name_normalize(what, name, NULL) == 0)
		rc = store_image_by_name(s, name, ret, err);
	if (rc == 0 && id_prefix(what, id)) {
		rc = store_image_by_prefix(s, id, ret, err);
		if (ret_by_id)
			*ret_by_id = true;
	}
	return rc;
}

static bool is_path(const char *what)
{
	return *what == '/' || *what == '.' || strcmp(what, "-") == 0 ||
	       strncmp(what, "-#", 2) == 0;
}

static int get_base(struct smolvm *s, const struct smolvm_import_options *options,
		    struct store_image *ret, struct smolvm_error *err)
{
	int rc = store_image_by_id(s, base_id(), ret, err);

	if (rc == 1 && ret->intact)
		return 0;
	if (rc == 1)
		store_image_fini(ret);
	return rc < 0 ? rc : import_base(s, options, ret, err);
}

static int not_in_store(const char *what, struct smolvm_error *err)
{
	return err_set(err, ENOENT, "no image \"%.200s\" in the store: 'smolvm image ls' lists "
		       "them", what);
}

static int not_found(const char *what, struct smolvm_error *err)
{
	if (is_path(what))
		return err_set(err, ENOENT, "there is no file or folder %.200s", what);
	return err_set(err, ENOENT, "no image \"%.100s\" in the store ('smolvm image ls') and no "
		       "file or folder of that name. smolvm does not pull from registries yet: "
		       "save the image with 'docker save' or 'skopeo copy' first, and give its "
		       "path, like ./image.tar", what);
}

static int get(struct smolvm *s, const char *what, const struct smolvm_import_options *options,
	       struct store_image *ret, struct smolvm_error *err)
{
	int rc = 0;

	if (!what || strcmp(what, SMOLVM_IMAGE_BASE) == 0)
		return get_base(s, options, ret, err);
	if (!*what)
		return err_set(err, EINVAL, "the image's name is empty");
	if (!is_path(what))
		rc = find(s, what, ret, NULL, err);
	if (rc == 1 && !ret->intact) {
		rc = err_set(err, ENOENT, "the file of the image %s, %s, is missing or damaged: "
			     "remove the image ('smolvm image rm %s') and import it again", what,
			     ret->path, what);
		store_image_fini(ret);
	}
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (strcmp(what, "-") != 0 && strncmp(what, "-#", 2) != 0 && !source_exists(what))
		return not_found(what, err);
	return import_source(s, what, options, ret, err);
}

int smolvm_image_get(struct smolvm *s, const char *what,
		     const struct smolvm_import_options *options, struct smolvm_image **ret,
		     struct smolvm_error *err)
{
	struct smolvm_error local = SMOLVM_ERROR_INIT;
	struct store_image record = { 0 };
	int rc;

	err = err ? err : &local;
	rc = get(s, what, options ? options : &no_options, &record, err);
	return rc < 0 ? rc : make_image(&record, ret, err);
}

int smolvm_image_find(struct smolvm *s, const char *what, struct smolvm_image **ret,
		      struct smolvm_error *err)
{
	struct store_image record = { 0 };
	int rc = find(s, what, &record, NULL, err);

	if (rc == 0)
		return not_in_store(what, err);
	return rc < 0 ? rc : make_image(&record, ret, err);
}

int smolvm_image_import(struct smolvm *s, const char *source,
			const struct smolvm_import_options *options, struct smolvm_image **ret,
			struct smolvm_error *err)
{
	struct smolvm_error local = SMOLVM_ERROR_INIT;
	struct smolvm_image *image = NULL;
	struct store_image record = { 0 };
	char name[NAME_LEN_MAX + 1];
	int rc = 0;

	err = err ? err : &local;
	options = options ? options : &no_options;
	/* A name that cannot be is known before gigabytes have been read. */
	if (options->name)
		rc = name_normalize(options->name, name, err);
	if (rc == 0)
		rc = import_source(s, source, options, &record, err);
	if (rc == 0)
		rc = make_image(&record, &image, err);
	if (rc == 0 && ret)
		*ret = image;
	else
		smolvm_image_free(image);
	return rc;
}

ssize_t smolvm_image_list(struct smolvm *s, struct smolvm_image ***ret, struct smolvm_error *err)
{
	struct store_image *records = NULL;
	ssize_t n = store_image_list(s, &records, err);
	struct smolvm_image **images;
	ssize_t rc = n;

	if (n < 0)
		return n;
	images = calloc((size_t)n + 1, sizeof(void *));
	if (!images)
		rc = err_nomem(err);
	for (ssize_t i = 0; i < n; i++) {
		if (rc >= 0) {
			int r = make_image(&records[i], &images[i], err);

			rc = r < 0 ? r : rc;
		} else {
			store_image_fini(&records[i]);
		}
	}
	free(records);
	if (rc < 0) {
		smolvm_image_free_list(images, images ? (size_t)n : 0);
		return rc;
	}
	*ret = images;
	return n;
}

int smolvm_image_remove(struct smolvm *s, const char *what, struct smolvm_error *err)
{
	struct store_image record = { 0 };
	char name[NAME_LEN_MAX + 1];
	bool by_id;
	int rc = find(s, what, &record, &by_id, err);

	if (rc == 0)
		return not_in_store(what, err);
	if (rc < 0)
		return rc;
	rc = by_id ? 0 : name_normalize(what, name, err);
	if (rc == 0)
		rc = by_id ? store_image_remove(s, record.id, err)
			   : store_image_unname(s, name, err);
	store_image_fini(&record);
	return rc < 0 ? rc : 0;
}
