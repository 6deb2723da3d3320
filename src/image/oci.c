/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents of images.
 */
#include "image/oci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/err.h"
#include "image/json.h"

static const struct {
	const char *media_type;
	enum oci_kind kind;
} media_types[] = {
	{ "application/vnd.oci.image.index.v1+json", OCI_INDEX },
	{ "application/vnd.docker.distribution.manifest.list.v2+json", OCI_INDEX },
	{ "application/vnd.oci.image.manifest.v1+json", OCI_MANIFEST },
	{ "application/vnd.docker.distribution.manifest.v2+json", OCI_MANIFEST },
	{ "application/vnd.oci.image.config.v1+json", OCI_CONFIG },
	{ "application/vnd.docker.container.image.v1+json", OCI_CONFIG },
	{ "application/vnd.oci.image.layer.v1.tar", OCI_LAYER },
	{ "application/vnd.oci.image.layer.v1.tar+gzip", OCI_LAYER },
	{ "application/vnd.oci.image.layer.v1.tar+zstd", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar.gzip", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.diff.tar.zstd", OCI_LAYER },
	{ "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", OCI_LAYER_FOREIGN },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar", OCI_LAYER_FOREIGN },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", OCI_LAYER_FOREIGN },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", OCI_LAYER_FOREIGN },
};

/* uname's machine and Go's name for it */
static const char *const architectures[][2] = {
	{ "x86_64", "amd64" }, { "aarch64", "arm64" }, { "riscv64", "riscv64" },
	{ "ppc64le", "ppc64le" }, { "s390x", "s390x" }, { "loongarch64", "loong64" },
	{ "armv7l", "arm" }, { "i686", "386" },
};

const char *oci_host_architecture(void)
{
	struct utsname uts;

	uname(&uts);
	for (size_t i = 0; i < sizeof(architectures) / sizeof(*architectures); i++)
		if (strcmp(uts.machine, architectures[i][0]) == 0)
			return architectures[i][1];
	return "unknown";
}

static enum oci_kind kind_of(const char *media_type)
{
	for (size_t i = 0; i < sizeof(media_types) / sizeof(*media_types); i++)
		if (strcmp(media_type, media_types[i].media_type) == 0)
			return media_types[i].kind;
	return OCI_UNKNOWN;
}

/* A string that fits, else "" (where a value may be missing, one that is absurd is none). */
static void copy_text(char *to, size_t size, const struct json_doc *from)
{
	const char *text = json_doc_string(from);

	snprintf(to, size, "%s", text && strlen(text) < size ? text : "");
}

static int read_descriptor(struct oci_descriptor *d, const struct json_doc *v,
			   struct smolvm_error *err)
{
	const struct json_doc *notes = json_doc_get(v, "annotations");
	const struct json_doc *platform = json_doc_get(v, "platform");
	const char *digest = json_doc_string(json_doc_get(v, "digest"));

	memset(d, 0, sizeof(*d));
	if (!digest || !digest_is_valid(digest))
		return err_set(err, EINVAL, "a descriptor with %s%.80s%s",
			       digest ? "the digest \"" : "no digest", digest ? digest : "",
			       digest ? "\", which is not a sha256 one" : "");
	memcpy(d->digest, digest, sizeof(d->digest));
	d->size = json_doc_int(json_doc_get(v, "size"), -1);
	if (d->size < 0)
		return err_set(err, EINVAL, "the descriptor of %s has no proper size", digest);
	copy_text(d->media_type, sizeof(d->media_type), json_doc_get(v, "mediaType"));
	d->kind = kind_of(d->media_type);
	copy_text(d->tag, sizeof(d->tag),
		  json_doc_get(notes, "org.opencontainers.image.ref.name"));
	copy_text(d->name, sizeof(d->name), json_doc_get(notes, "io.containerd.image.name"));
	copy_text(d->os, sizeof(d->os), json_doc_get(platform, "os"));
	copy_text(d->architecture, sizeof(d->architecture),
		  json_doc_get(platform, "architecture"));
	d->artifact = strcmp(d->os, "unknown") == 0 ||
		      json_doc_get(notes, "vnd.docker.reference.type");
	return 0;
}

static int read_descriptors(struct oci_descriptor **ret, size_t *ret_n, const struct json_doc *list,
			    size_t max, const char *what, struct smolvm_error *err)
{
	size_t n = json_doc_count(list);
	struct oci_descriptor *all;

	if (!json_doc_is_array(list))
		return err_set(err, EINVAL, "there is no list of %s in it", what);
	if (n > max)
		return err_set(err, EFBIG, "%zu %s are more than the %zu that smolvm accepts", n,
			       what, max);
	all = calloc(n + 1, sizeof(*all));
	if (!all)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int rc = read_descriptor(&all[i], json_doc_at(list, i), err);

		if (rc < 0) {
			free(all);
			return rc;
		}
	}
	*ret = all;
	*ret_n = n;
	return 0;
}

int oci_index_parse(struct oci_index *ret, const char *text, size_t len, struct smolvm_error *err)
{
	struct json_doc *doc;
	int rc = json_doc_parse(&doc, text, len, err);

	if (rc < 0)
		return rc;
	rc = read_descriptors(&ret->manifests, &ret->n, json_doc_get(doc, "manifests"),
			      OCI_INDEX_MAX, "manifests", err);
	json_doc_free(doc);
	return rc;
}

void oci_index_fini(struct oci_index *index)
{
	free(index->manifests);
	*index = (struct oci_index){ 0 };
}

static int check_layers(const struct oci_manifest *m, struct smolvm_error *err)
{
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct oci_descriptor *d = &m->layers[i];

		if (d->kind == OCI_LAYER_FOREIGN)
			return err_set(err, EINVAL, "layer %s is a foreign one (%s), which is not "
				       "part of the image", d->digest, d->media_type);
		if (d->kind != OCI_LAYER)
			return err_set(err, EINVAL, "layer %s is of the type \"%s\", which smolvm "
				       "does not know", d->digest, d->media_type);
	}
	return 0;
}

int oci_manifest_parse(struct oci_manifest *ret, const char *text, size_t len,
		       struct smolvm_error *err)
{
	struct oci_manifest m = { 0 };
	struct json_doc *doc;
	int rc = json_doc_parse(&doc, text, len, err);

	if (rc < 0)
		return rc;
	if (json_doc_int(json_doc_get(doc, "schemaVersion"), 0) != 2)
		rc = err_set(err, EINVAL, "its schemaVersion is not 2");
	if (rc == 0)
		rc = read_descriptor(&m.config, json_doc_get(doc, "config"), err);
	if (rc == 0 && m.config.kind != OCI_CONFIG)
		rc = err_set(err, EINVAL, "it describes no container image but \"%s\"",
			     m.config.media_type);
	if (rc == 0)
		rc = read_descriptors(&m.layers, &m.n_layers, json_doc_get(doc, "layers"),
				      OCI_LAYERS_MAX, "layers", err);
	if (rc == 0)
		rc = check_layers(&m, err);
	json_doc_free(doc);
	if (rc < 0)
		oci_manifest_fini(&m);
	else
		*ret = m;
	return rc;
}

void oci_manifest_fini(struct oci_manifest *m)
{
	free(m->layers);
	*m = (struct oci_manifest){ 0 };
}

static void free_strings(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

/* A list of strings as a NULL-terminated array. A missing list is an empty one. */
static int read_strings(char ***ret, size_t *ret_n, const struct json_doc *list, size_t max,
			const char *what, struct smolvm_error *err)
{
	size_t n = json_doc_count(list);
	char **strings;

	if (list && !json_doc_is_array(list))
		return err_set(err, EINVAL, "%s is not a list", what);
	if (n > max)
		return err_set(err, EFBIG, "%s has %zu entries, more than the %zu that smolvm "
			       "accepts", what, n, max);
	strings = calloc(n + 1, sizeof(*strings));
	if (!strings)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const char *text = json_doc_string(json_doc_at(list, i));

		strings[i] = text ? strdup(text) : NULL;
		if (!strings[i]) {
			free_strings(strings);
			return text ? err_nomem(err)
				    : err_set(err, EINVAL, "%s holds what is not a string", what);
		}
	}
	*ret = strings;
	if (ret_n)
		*ret_n = n;
	return 0;
}

static int read_string(char **ret, const struct json_doc *v, const char *what,
		       struct smolvm_error *err)
{
	const char *text = json_doc_string(v);

	if (v && !text)
		return err_set(err, EINVAL, "%s is not a string", what);
	*ret = strdup(text ? text : "");
	return *ret ? 0 : err_nomem(err);
}

static int read_config(struct oci_config *c, const struct json_doc *doc, struct smolvm_error *err)
{
	const struct json_doc *run = json_doc_get(doc, "config");
	const struct json_doc *rootfs = json_doc_get(doc, "rootfs");
	const struct {
		char ***to;
		const char *key;
	} lists[] = {
		{ &c->entrypoint, "Entrypoint" }, { &c->cmd, "Cmd" }, { &c->env, "Env" },
	};
	const struct {
		char **to;
		const struct json_doc *from;
		const char *key;
	} strings[] = {
		{ &c->workdir, run, "WorkingDir" }, { &c->user, run, "User" },
		{ &c->stop_signal, run, "StopSignal" },
		{ &c->architecture, doc, "architecture" }, { &c->os, doc, "os" },
	};
	int rc;

	if (!json_doc_is_object(doc))
		return err_set(err, EINVAL, "it is not an object");
	rc = read_strings(&c->diff_ids, &c->n_diff_ids, json_doc_get(rootfs, "diff_ids"),
			  OCI_LAYERS_MAX, "rootfs.diff_ids", err);
	for (size_t i = 0; rc == 0 && i < sizeof(lists) / sizeof(*lists); i++)
		rc = read_strings(lists[i].to, NULL, json_doc_get(run, lists[i].key),
				  OCI_STRINGS_MAX, lists[i].key, err);
	for (size_t i = 0; rc == 0 && i < sizeof(strings) / sizeof(*strings); i++)
		rc = read_string(strings[i].to, json_doc_get(strings[i].from, strings[i].key),
				 strings[i].key, err);
	for (size_t i = 0; rc == 0 && i < c->n_diff_ids; i++)
		if (!digest_is_valid(c->diff_ids[i]))
			rc = err_set(err, EINVAL, "\"%.80s\" in rootfs.diff_ids is not a sha256 "
				     "digest", c->diff_ids[i]);
	return rc;
}

int oci_config_parse(struct oci_config *ret, const char *text, size_t len,
		     struct smolvm_error *err)
{
	struct oci_config config = { 0 };
	struct json_doc *doc;
	int rc = json_doc_parse(&doc, text, len, err);

	if (rc < 0)
		return rc;
	rc = read_config(&config, doc, err);
	json_doc_free(doc);
	if (rc < 0)
		oci_config_fini(&config);
	else
		*ret = config;
	return rc;
}

void oci_config_fini(struct oci_config *c)
{
	free_strings(c->entrypoint);
	free_strings(c->cmd);
	free_strings(c->env);
	free_strings(c->diff_ids);
	free(c->workdir);
	free(c->user);
	free(c->stop_signal);
	free(c->architecture);
	free(c->os);
	*c = (struct oci_config){ 0 };
}

static int read_docker_image(struct docker_image *image, const struct json_doc *v,
			     struct smolvm_error *err)
{
	int rc = read_string(&image->config, json_doc_get(v, "Config"), "Config", err);

	if (rc == 0 && !*image->config)
		rc = err_set(err, EINVAL, "an image without a Config");
	if (rc == 0)
		rc = read_strings(&image->layers, &image->n_layers, json_doc_get(v, "Layers"),
				  OCI_LAYERS_MAX, "Layers", err);
	if (rc == 0)
		rc = read_strings(&image->tags, NULL, json_doc_get(v, "RepoTags"),
				  OCI_INDEX_MAX, "RepoTags", err);
	return rc;
}

int docker_manifest_parse(struct docker_manifest *ret, const char *text, size_t len,
			  struct smolvm_error *err)
{
	struct docker_manifest m = { 0 };
	struct json_doc *doc;
	int rc = json_doc_parse(&doc, text, len, err);
	size_t n;

	if (rc < 0)
		return rc;
	n = json_doc_count(doc);
	if (!json_doc_is_array(doc) || n == 0)
		rc = err_set(err, EINVAL, "it lists no image");
	else if (n > OCI_INDEX_MAX)
		rc = err_set(err, EFBIG, "%zu images are more than the %d that smolvm accepts", n,
			     OCI_INDEX_MAX);
	else if (!(m.images = calloc(n, sizeof(*m.images))))
		rc = err_nomem(err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		m.n = i + 1;
		rc = read_docker_image(&m.images[i], json_doc_at(doc, i), err);
	}
	json_doc_free(doc);
	if (rc < 0)
		docker_manifest_fini(&m);
	else
		*ret = m;
	return rc;
}

void docker_manifest_fini(struct docker_manifest *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->images[i].config);
		free_strings(m->images[i].layers);
		free_strings(m->images[i].tags);
	}
	free(m->images);
	*m = (struct docker_manifest){ 0 };
}
