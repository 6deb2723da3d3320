/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which image a bundle holds, and which layers it consists of.
 *
 * manifest.json is preferred where there is index.json too ("docker save" writes both): it has the
 * names that the user gave, and the one platform that was in use.
 */
#include "image/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/oci.h"

#define BLOBS      "blobs/sha256/"
#define LISTED_MAX 300 /* bytes of a list in a message */
#define HEX        "0123456789abcdef"

/* A list for a message: "a, b, c, ...". */
struct listing {
	char text[LISTED_MAX + 8];
	size_t len;
	bool full;
};

static void list_item(struct listing *l, const char *item)
{
	if (l->full)
		return;
	l->full = l->len + strlen(item) + 2 > LISTED_MAX;
	l->len += (size_t)snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s",
				   l->len ? ", " : "", l->full ? "..." : item);
}

static int check_digest(const char *what, const char *want, const char *got,
			struct smolvm_error *err)
{
	if (strcmp(want, got) == 0)
		return 0;
	return err_set(err, EBADMSG, "%s is damaged: its digest is %s and should be %s", what, got,
		       want);
}

/* The document that @d describes, verified. */
static int read_blob(struct bundle *b, const struct oci_descriptor *d, char **ret, size_t *ret_len,
		     struct smolvm_error *err)
{
	char path[sizeof(BLOBS) + DIGEST_LEN], digest[DIGEST_LEN + 1];
	AUTO_FREE char *data = NULL;
	size_t len = 0;
	int rc;

	snprintf(path, sizeof(path), BLOBS "%s", d->digest + strlen(DIGEST_PREFIX));
	rc = bundle_read(b, path, OCI_JSON_BYTES_MAX, &data, &len, err);
	if (rc == 0)
		rc = digest_of(data, len, digest, err);
	if (rc == 0)
		rc = check_digest(path, d->digest, digest, err);
	if (rc < 0)
		return rc == -ENOENT ? err_set(err, EINVAL, "%s is missing", path) : rc;
	*ret = ptr_take(data);
	*ret_len = len;
	return 0;
}

static int add_layer(struct plan *p, const char *path, const char *digest, int64_t size,
		     const char *diff_id, struct smolvm_error *err)
{
	struct plan_layer *layer = &p->layers[p->n_layers];

	layer->path = strdup(path);
	if (!layer->path)
		return err_nomem(err);
	snprintf(layer->digest, sizeof(layer->digest), "%s", digest);
	snprintf(layer->diff_id, sizeof(layer->diff_id), "%s", diff_id);
	layer->size = size;
	p->n_layers++;
	return 0;
}

/* Takes over the configuration that @p holds: its layers must be those of the manifest. */
static int begin_layers(struct plan *p, struct oci_config *ret, size_t n, struct smolvm_error *err)
{
	int rc = oci_config_parse(ret, p->config, p->config_len, err);

	if (rc < 0) {
		err_prefix(err, "the image's configuration");
		return rc;
	}
	if (ret->n_diff_ids != n)
		return err_set(err, EINVAL, "its manifest has %zu layers and its configuration %zu",
			       n, ret->n_diff_ids);
	p->layers = calloc(n + 1, sizeof(*p->layers));
	return p->layers ? 0 : err_nomem(err);
}

/* Names that are none of ours are left out: the image can still be given one. */
static int add_name(struct plan *p, const char *name, struct smolvm_error *err)
{
	int rc = name_list_add(&p->names, name, NULL);

	return rc == -ENOMEM ? err_nomem(err) : 0;
}

/* --- "docker save" --- */

/* The digest that a file's name claims for it ("<hex>.json", "blobs/sha256/<hex>"), or "". */
static void digest_in_name(const char *path, char ret[DIGEST_LEN + 1])
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (strncmp(name, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) == 0)
		name += strlen(DIGEST_PREFIX);
	*ret = '\0';
	if (strspn(name, HEX) == 64 && (!name[64] || strcmp(name + 64, ".json") == 0))
		snprintf(ret, DIGEST_LEN + 1, DIGEST_PREFIX "%.64s", name);
}

static bool docker_image_has(const struct docker_image *image, const char *tag)
{
	struct name_list names = { 0 };
	bool has;

	for (char **t = image->tags; *t; t++)
		name_list_add(&names, *t, NULL);
	has = name_list_has(&names, tag);
	name_list_fini(&names);
	return has;
}

static int choose_docker(const struct docker_manifest *m, const char *tag,
			 const struct docker_image **ret, struct smolvm_error *err)
{
	const struct docker_image *found = NULL;
	struct listing all = { "" };
	bool several = false;

	for (size_t i = 0; i < m->n; i++) {
		const struct docker_image *image = &m->images[i];

		for (char **t = image->tags; *t; t++)
			list_item(&all, *t);
		if (tag && !docker_image_has(image, tag))
			continue;
		several = several || (found && strcmp(found->config, image->config) != 0);
		found = image;
	}
	if (!found)
		return err_set(err, EINVAL, "no image in it is called %s; there are: %s", tag,
			       all.text);
	if (several)
		return err_set(err, EINVAL, "it holds several images: choose one by adding #TAG to "
			       "the path; there are: %s", all.text);
	*ret = found;
	return 0;
}

static int plan_docker_layers(struct plan *p, const struct docker_image *image,
			      struct smolvm_error *err)
{
	struct oci_config config = { 0 };
	int rc = begin_layers(p, &config, image->n_layers, err);

	for (size_t i = 0; rc == 0 && i < image->n_layers; i++) {
		char digest[DIGEST_LEN + 1] = "";

		if (strncmp(image->layers[i], BLOBS, strlen(BLOBS)) == 0)
			digest_in_name(image->layers[i], digest);
		rc = add_layer(p, bundle_trim(image->layers[i]), digest, -1, config.diff_ids[i],
			       err);
	}
	oci_config_fini(&config);
	return rc;
}

static int plan_docker(struct plan *p, struct bundle *b, const struct docker_manifest *m,
		       const char *tag, struct smolvm_error *err)
{
	const struct docker_image *image = NULL;
	char want[DIGEST_LEN + 1];
	int rc = choose_docker(m, tag, &image, err);

	if (rc == 0)
		rc = bundle_read(b, bundle_trim(image->config), OCI_JSON_BYTES_MAX, &p->config,
				 &p->config_len, err);
	if (rc == 0)
		rc = digest_of(p->config, p->config_len, p->id, err);
	if (rc < 0)
		return rc == -ENOENT ? -EINVAL : rc;
	digest_in_name(image->config, want);
	if (*want)
		rc = check_digest(image->config, want, p->id, err);
	for (size_t i = 0; rc == 0 && i < m->n; i++) {
		if (strcmp(m->images[i].config, image->config) != 0)
			continue;
		for (char **t = m->images[i].tags; rc == 0 && *t; t++)
			rc = add_name(p, *t, err);
	}
	return rc < 0 ? rc : plan_docker_layers(p, image, err);
}

/* --- OCI layout --- */

/* What people call it: the full name, or "" (a tag alone says no name). */
static const char *full_name(const struct oci_descriptor *d)
{
	return *d->name ? d->name : strpbrk(d->tag, ":/") ? d->tag : "";
}

static bool descriptor_has(const struct oci_descriptor *d, const char *tag)
{
	struct name_list names = { 0 };
	bool has = strcmp(d->tag, tag) == 0;

	if (!has && *full_name(d)) {
		name_list_add(&names, full_name(d), NULL);
		has = name_list_has(&names, tag);
		name_list_fini(&names);
	}
	return has;
}

static bool fits_host(const struct oci_descriptor *d)
{
	return (!*d->os || strcmp(d->os, "linux") == 0) &&
	       (!*d->architecture || strcmp(d->architecture, oci_host_architecture()) == 0);
}

/* By platform, the first that fits. */
static int choose_platform(const struct oci_index *index, const struct oci_descriptor **ret,
			   struct smolvm_error *err)
{
	struct listing all = { "" };

	for (size_t i = 0; i < index->n; i++) {
		const struct oci_descriptor *d = &index->manifests[i];
		char platform[sizeof(d->os) + sizeof(d->architecture)];

		if (d->artifact)
			continue;
		if (fits_host(d)) {
			*ret = d;
			return 0;
		}
		snprintf(platform, sizeof(platform), "%s/%s", d->os, d->architecture);
		list_item(&all, platform);
	}
	return err_set(err, EINVAL, "it has no image for linux/%s; there are: %s",
		       oci_host_architecture(), *all.text ? all.text : "none at all");
}

/* Leaves in @index only what is meant by @tag; it must be one image, for one or more platforms. */
static int keep_tagged(struct oci_index *index, const char *tag, struct smolvm_error *err)
{
	struct listing all = { "" };
	bool several = false;
	size_t n = 0;

	for (size_t i = 0; i < index->n; i++) {
		struct oci_descriptor *d = &index->manifests[i];
		const struct oci_descriptor *first = &index->manifests[0];

		if (d->artifact)
			continue;
		list_item(&all, *full_name(d) ? full_name(d) : *d->tag ? d->tag : d->digest);
		if (tag && !descriptor_has(d, tag))
			continue;
		several = several || (n > 0 && strcmp(first->digest, d->digest) != 0 &&
				      (strcmp(first->tag, d->tag) != 0 ||
				       strcmp(first->name, d->name) != 0));
		index->manifests[n++] = *d;
	}
	index->n = n;
	if (n == 0)
		return tag ? err_set(err, EINVAL, "no image in it is called %s; there are: %s", tag,
				     all.text)
			   : err_set(err, EINVAL, "it holds no image");
	if (several)
		return err_set(err, EINVAL, "it holds several images: choose one by adding #TAG to "
			       "the path; there are: %s", all.text);
	return 0;
}

/* From the chosen descriptor down to a manifest for this host. */
static int find_manifest(struct bundle *b, struct oci_descriptor *d, struct oci_manifest *ret,
			 struct smolvm_error *err)
{
	for (int depth = 0; depth < OCI_INDEX_DEPTH_MAX; depth++) {
		const struct oci_descriptor *chosen = NULL;
		struct oci_index index = { 0 };
		AUTO_FREE char *text = NULL;
		size_t len = 0;
		int rc;

		if (d->kind != OCI_INDEX && d->kind != OCI_MANIFEST)
			return err_set(err, EINVAL, "it holds no container image but \"%s\"",
				       d->media_type);
		rc = read_blob(b, d, &text, &len, err);
		if (rc == 0 && d->kind == OCI_MANIFEST) {
			rc = oci_manifest_parse(ret, text, len, err);
			if (rc < 0)
				err_prefix(err, "manifest %s", d->digest);
			return rc;
		}
		if (rc == 0)
			rc = oci_index_parse(&index, text, len, err);
		if (rc == 0)
			rc = choose_platform(&index, &chosen, err);
		if (rc == 0 && chosen)
			*d = *chosen;
		oci_index_fini(&index);
		if (rc < 0)
			return rc;
	}
	return err_set(err, EFBIG, "more than %d indexes in each other", OCI_INDEX_DEPTH_MAX);
}

static int plan_oci_layers(struct plan *p, const struct oci_manifest *m, struct smolvm_error *err)
{
	struct oci_config config = { 0 };
	int rc = begin_layers(p, &config, m->n_layers, err);

	for (size_t i = 0; rc == 0 && i < m->n_layers; i++) {
		char path[sizeof(BLOBS) + DIGEST_LEN];

		snprintf(path, sizeof(path), BLOBS "%s",
			 m->layers[i].digest + strlen(DIGEST_PREFIX));
		rc = add_layer(p, path, m->layers[i].digest, m->layers[i].size,
			       config.diff_ids[i], err);
	}
	oci_config_fini(&config);
	return rc;
}

static int plan_oci(struct plan *p, struct bundle *b, struct oci_index *index, const char *tag,
		    struct smolvm_error *err)
{
	const struct oci_descriptor *chosen = NULL;
	struct oci_manifest manifest = { 0 };
	int rc = keep_tagged(index, tag, err);

	if (rc == 0)
		rc = choose_platform(index, &chosen, err);
	for (size_t i = 0; rc == 0 && i < index->n; i++)
		if (*full_name(&index->manifests[i]))
			rc = add_name(p, full_name(&index->manifests[i]), err);
	if (rc == 0) {
		struct oci_descriptor d = *chosen;

		rc = find_manifest(b, &d, &manifest, err);
	}
	if (rc == 0)
		rc = read_blob(b, &manifest.config, &p->config, &p->config_len, err);
	if (rc == 0) {
		snprintf(p->id, sizeof(p->id), "%s", manifest.config.digest);
		rc = plan_oci_layers(p, &manifest, err);
	}
	oci_manifest_fini(&manifest);
	return rc;
}

int plan_check_platform(const char *text, size_t len, struct smolvm_error *err)
{
	struct oci_config config;
	int rc = oci_config_parse(&config, text, len, err);

	if (rc < 0)
		return rc;
	if ((*config.os && strcmp(config.os, "linux") != 0) ||
	    (*config.architecture &&
	     strcmp(config.architecture, oci_host_architecture()) != 0))
		rc = err_set(err, EINVAL, "it is an image for %s/%s; this host runs those for "
			     "linux/%s", *config.os ? config.os : "linux", config.architecture,
			     oci_host_architecture());
	oci_config_fini(&config);
	return rc;
}

/* Reads one of the two documents at the top, if it is there. Return: 1, 0 or a negative errno. */
static int read_top(struct bundle *b, const char *path, char **ret, size_t *ret_len,
		    struct smolvm_error *err)
{
	int rc = bundle_read(b, path, OCI_JSON_BYTES_MAX, ret, ret_len, err);

	return rc == 0 ? 1 : rc == -ENOENT ? 0 : rc;
}

static int plan_any(struct plan *p, struct bundle *b, const char *tag, struct smolvm_error *err)
{
	struct docker_manifest manifest = { 0 };
	struct oci_index index = { 0 };
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = read_top(b, "manifest.json", &text, &len, err);

	if (rc == 1) {
		rc = docker_manifest_parse(&manifest, text, len, err);
		if (rc < 0)
			err_prefix(err, "manifest.json");
		else
			rc = plan_docker(p, b, &manifest, tag, err);
		docker_manifest_fini(&manifest);
		return rc;
	}
	if (rc == 0)
		rc = read_top(b, "index.json", &text, &len, err);
	if (rc == 0)
		return err_set(err, EINVAL, "it is an image archive without manifest.json and "
			       "index.json: incomplete, or of a docker before 1.10");
	if (rc < 0)
		return rc;
	rc = oci_index_parse(&index, text, len, err);
	if (rc < 0)
		err_prefix(err, "index.json");
	else
		rc = plan_oci(p, b, &index, tag, err);
	oci_index_fini(&index);
	return rc;
}

int plan_image(struct plan *ret, struct bundle *b, const char *tag, struct smolvm_error *err)
{
	struct plan p = { "" };
	int rc = plan_any(&p, b, tag, err);

	if (rc == 0)
		rc = plan_check_platform(p.config, p.config_len, err);
	if (rc < 0)
		plan_fini(&p);
	else
		*ret = p;
	return rc;
}

void plan_fini(struct plan *p)
{
	for (size_t i = 0; i < p->n_layers; i++)
		free(p->layers[i].path);
	free(p->layers);
	free(p->config);
	name_list_fini(&p->names);
	*p = (struct plan){ "" };
}
