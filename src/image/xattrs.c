/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes, encoded once for all files that have the same ones.
 *
 * EROFS on-disk format, inline attributes: a header of 12 bytes (zero: no shared ones), then for
 * each a byte length and a byte index of the prefix, a 16-bit length of the value, the name without
 * the prefix and the value, padded to four bytes.
 */
#include "image/xattrs.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define HEADER_BYTES 12u

static const struct prefix {
	const char *text;
	uint8_t index; /* EROFS_XATTR_INDEX_*; 0: left out */
	uint8_t whole; /* the name is nothing but the prefix */
} prefixes[] = {
	{ "trusted.overlay.", 0, 0 },
	{ "user.", 1, 0 },
	{ "system.posix_acl_access", 2, 1 },
	{ "system.posix_acl_default", 3, 1 },
	{ "trusted.", 4, 0 },
	{ "security.", 6, 0 },
};

static const struct prefix *find_prefix(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
		const struct prefix *p = &prefixes[i];

		if (p->whole ? !strcmp(name, p->text) : !strncmp(name, p->text, strlen(p->text)))
			return p->index ? p : NULL;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

/* The list without what is left out, and the last of each name only. */
static size_t select_kept(struct tar_xattr *list, size_t n)
{
	size_t i, j, kept = 0;

	for (i = 0; i < n; i++) {
		if (!find_prefix(list[i].name))
			continue;
		for (j = 0; j < kept && strcmp(list[j].name, list[i].name); j++)
			;
		list[j] = list[i];
		kept += j == kept;
	}
	qsort(list, kept, sizeof(*list), compare);
	return kept;
}

static int encode(uint8_t *buf, size_t *len, const struct tar_xattr *x, struct smolvm_error *err)
{
	const struct prefix *p = find_prefix(x->name);
	const char *name = x->name + strlen(p->text);
	size_t name_len = strlen(name), need = (4 + name_len + x->len + 3) & ~(size_t)3;
	uint16_t value_len = htole16((uint16_t)x->len);
	uint8_t *at = buf + *len;

	if (strlen(x->name) > 255 || (!p->whole && name_len == 0))
		return err_set(err, EINVAL, "bad name of an extended attribute: %s", x->name);
	if (x->len > UINT16_MAX || need > XATTRS_BUFFER - *len)
		return err_set(err, EFBIG, "extended attribute %s is too large", x->name);
	at[0] = (uint8_t)name_len;
	at[1] = p->index;
	memcpy(at + 2, &value_len, 2);
	memcpy(at + 4, name, name_len);
	if (x->len)
		memcpy(at + 4 + name_len, x->value, x->len);
	memset(at + 4 + name_len + x->len, 0, need - 4 - name_len - x->len);
	*len += need;
	return 0;
}

static uint32_t hash(const uint8_t *p, size_t len)
{
	uint32_t h = 2166136261u;

	while (len-- > 0)
		h = (h ^ *p++) * 16777619u;
	return h;
}

/* Kept with their length in front. */
static int intern(struct xattrs *x, size_t len, uint32_t *ret)
{
	uint8_t *buf = x->buf;
	uint32_t *slot = &x->slots[hash(buf, len) % XATTRS_SLOTS];
	uint32_t size = (uint32_t)len;

	memcpy(buf, &size, sizeof(size));
	if (*slot && !memcmp(arena_get(x->arena, *slot), buf, 4) &&
	    !memcmp(arena_get(x->arena, *slot), buf, len)) {
		*ret = *slot;
		return 0;
	}
	*slot = arena_add(x->arena, buf, len);
	if (!*slot)
		return -errno;
	*ret = *slot;
	return 0;
}

int xattrs_add(struct xattrs *x, struct tar_xattr *list, size_t n, uint32_t *ret,
	       struct smolvm_error *err)
{
	size_t len = 4 + HEADER_BYTES, i;
	int r;

	if (n > 0)
		n = select_kept(list, n);
	if (n == 0) {
		*ret = 0;
		return 0;
	}
	memset(x->buf, 0, len);
	for (i = 0; i < n; i++) {
		r = encode(x->buf, &len, &list[i], err);
		if (r < 0)
			return r;
	}
	r = intern(x, len, ret);
	if (r == -EFBIG)
		return err_set(err, EFBIG, "too many names and attributes");
	return r < 0 ? err_nomem(err) : 0;
}

const void *xattrs_get(const struct xattrs *x, uint32_t ref, uint32_t *ret_len)
{
	const char *at;
	uint32_t size;

	*ret_len = 0;
	if (!ref)
		return NULL;
	at = arena_get(x->arena, ref);
	memcpy(&size, at, sizeof(size));
	*ret_len = size - 4;
	return at + 4;
}
