/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents of images: OCI image-spec index.md, manifest.md and config.md, Docker's
 * equivalents (which differ in media types only), and manifest.json of "docker save".
 */
#ifndef IMAGE_OCI_H
#define IMAGE_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "image/digest.h"

#define OCI_JSON_BYTES_MAX  (4u << 20) /* any one document */
#define OCI_INDEX_MAX       4096       /* manifests in one index */
#define OCI_INDEX_DEPTH_MAX 4          /* indexes in indexes */
#define OCI_LAYERS_MAX      500
#define OCI_STRINGS_MAX     8192       /* arguments, or environment variables */
#define OCI_TEXT_MAX        255        /* media types, names, platforms */

/** enum oci_kind - what a descriptor's media type says that it describes. */
enum oci_kind {
	OCI_UNKNOWN,
	OCI_INDEX,
	OCI_MANIFEST,
	OCI_CONFIG,
	OCI_LAYER,
	OCI_LAYER_FOREIGN, /* is elsewhere, by its maker's wish */
};

/**
 * struct oci_descriptor - what is said about a blob.
 * @digest:   a valid one, or "" where it may be missing.
 * @size:     bytes, at least 0.
 * @tag:      org.opencontainers.image.ref.name, or "".
 * @name:     io.containerd.image.name, or "".
 * @os, @architecture: of the platform, or "".
 * @artifact: no image that runs, but something said about one (an attestation).
 */
struct oci_descriptor {
	enum oci_kind kind;
	char media_type[OCI_TEXT_MAX + 1];
	char digest[DIGEST_LEN + 1];
	int64_t size;
	char tag[OCI_TEXT_MAX + 1];
	char name[OCI_TEXT_MAX + 1];
	char os[32], architecture[32];
	bool artifact;
};

struct oci_index {
	struct oci_descriptor *manifests;
	size_t n;
};

struct oci_manifest {
	struct oci_descriptor config;
	struct oci_descriptor *layers;
	size_t n_layers;
};

/**
 * struct oci_config - the configuration of an image. Lists are NULL-terminated, strings never
 * NULL.
 */
struct oci_config {
	char **entrypoint, **cmd, **env;
	char *workdir, *user, *stop_signal;
	char *architecture, *os;
	char **diff_ids;
	size_t n_diff_ids;
};

/** struct docker_image - one image of a manifest.json; paths are inside the archive. */
struct docker_image {
	char *config;
	char **layers;
	size_t n_layers;
	char **tags;
};

struct docker_manifest {
	struct docker_image *images;
	size_t n;
};

/* Readers. @text need not end in a NUL. Errors: -EINVAL, -EFBIG (a limit), -ENOMEM. The result
 * is for the matching fini, which accepts all zeroes. */
int oci_index_parse(struct oci_index *ret, const char *text, size_t len, struct smolvm_error *err);
void oci_index_fini(struct oci_index *index);

int oci_manifest_parse(struct oci_manifest *ret, const char *text, size_t len,
		       struct smolvm_error *err);
void oci_manifest_fini(struct oci_manifest *manifest);

int oci_config_parse(struct oci_config *ret, const char *text, size_t len,
		     struct smolvm_error *err);
void oci_config_fini(struct oci_config *config);

int docker_manifest_parse(struct docker_manifest *ret, const char *text, size_t len,
			  struct smolvm_error *err);
void docker_manifest_fini(struct docker_manifest *manifest);

/** oci_host_architecture() - this host's, in Go's terms. */
const char *oci_host_architecture(void);

#endif
