/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which image a bundle holds, and which layers it consists of.
 */
#ifndef IMAGE_PLAN_H
#define IMAGE_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "image/bundle.h"
#include "image/digest.h"
#include "image/name.h"

/**
 * struct plan_layer - one layer.
 * @path:    in the bundle.
 * @digest:  what the blob must have, or "" where that is not said.
 * @diff_id: what it must have uncompressed.
 * @size:    of the blob; -1 where that is not said.
 */
struct plan_layer {
	char *path;
	char digest[DIGEST_LEN + 1];
	char diff_id[DIGEST_LEN + 1];
	int64_t size;
};

/**
 * struct plan - an image to import.
 * @id:     the digest of @config, which has been compared with what it should be.
 * @names:  those that the bundle gives.
 */
struct plan {
	char id[DIGEST_LEN + 1];
	char *config;
	size_t config_len;
	struct plan_layer *layers;
	size_t n_layers;
	struct name_list names;
};

/**
 * plan_image() - choose the image.
 * @tag: a name or tag, or NULL: there must be only one.
 *
 * Of an image for several platforms, the one for this host. Errors: -EINVAL (malformed; none or
 * several images; not for this host), -EBADMSG, -EFBIG, -ENOMEM, -EIO.
 */
int plan_image(struct plan *ret, struct bundle *b, const char *tag, struct smolvm_error *err);
void plan_fini(struct plan *p);

/** plan_check_platform() - is a configuration for this host? Return: 0, -EINVAL, ... */
int plan_check_platform(const char *config, size_t len, struct smolvm_error *err);

#endif
