/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 digests in the form "sha256:<64 hexadecimal digits>": the only user of libcrypto.
 */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include <smolvm/error.h>

#define DIGEST_PREFIX "sha256:"
#define DIGEST_LEN    71 /* without the NUL */

/** struct digest - one being computed. */
struct digest {
	void *ctx;
};

/** digest_init() - Return: 0 or -ENOMEM. */
int digest_init(struct digest *d, struct smolvm_error *err);
void digest_update(struct digest *d, const void *data, size_t len);
/** digest_final() - the digest of everything so far; afterwards only digest_fini() is allowed. */
void digest_final(struct digest *d, char ret[DIGEST_LEN + 1]);
void digest_fini(struct digest *d);

/** digest_of() - the digest of one piece of memory. Return: 0 or -ENOMEM. */
int digest_of(const void *data, size_t len, char ret[DIGEST_LEN + 1], struct smolvm_error *err);

/** digest_is_valid() - does @s have that form (with digits in lower case), and nothing after? */
bool digest_is_valid(const char *s);

#endif
