/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 digests in text form.
 */
#include "image/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/err.h"

#define SHA256_BYTES 32

int digest_init(struct digest *d, struct smolvm_error *err)
{
	d->ctx = EVP_MD_CTX_new();
	if (d->ctx && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) == 1)
		return 0;
	digest_fini(d);
	return err_nomem(err);
}

void digest_update(struct digest *d, const void *data, size_t len)
{
	int ok = EVP_DigestUpdate(d->ctx, data, len);

	assert(ok == 1);
	(void)ok;
}

void digest_final(struct digest *d, char ret[DIGEST_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	int ok = EVP_DigestFinal_ex(d->ctx, raw, &n);
	char *p = mempcpy(ret, DIGEST_PREFIX, sizeof(DIGEST_PREFIX) - 1);

	assert(ok == 1 && n == SHA256_BYTES);
	(void)ok;
	for (unsigned int i = 0; i < SHA256_BYTES; i++) {
		*p++ = digits[raw[i] >> 4];
		*p++ = digits[raw[i] & 15];
	}
	*p = '\0';
}

void digest_fini(struct digest *d)
{
	EVP_MD_CTX_free(d->ctx);
	d->ctx = NULL;
}

int digest_of(const void *data, size_t len, char ret[DIGEST_LEN + 1], struct smolvm_error *err)
{
	struct digest d;
	int rc = digest_init(&d, err);

	if (rc < 0)
		return rc;
	digest_update(&d, data, len);
	digest_final(&d, ret);
	digest_fini(&d);
	return 0;
}

bool digest_is_valid(const char *s)
{
	size_t prefix = strlen(DIGEST_PREFIX);

	return strncmp(s, DIGEST_PREFIX, prefix) == 0 && strlen(s) == DIGEST_LEN &&
	       strspn(s + prefix, "0123456789abcdef") == DIGEST_LEN - prefix;
}
