/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffered writing with holes.
 */
#include "image/out.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"

int out_init(struct out *o, int fd, uint64_t base, uint64_t max, struct smolvm_error *err)
{
	*o = (struct out){ .fd = fd, .base = base, .max = max };
	o->buf = malloc(OUT_BUFFER);
	return o->buf ? 0 : err_nomem(err);
}

void out_fini(struct out *o)
{
	free(o->buf);
	o->buf = NULL;
}

static bool is_zero(const uint8_t *block)
{
	return !block[0] && !memcmp(block, block + 1, OUT_BLOCK - 1);
}

/* Write the whole blocks among the first @len bytes that are not zero, neighbours together. */
static int write_blocks(struct out *o, size_t len, struct smolvm_error *err)
{
	size_t at = 0, end;
	int r;

	while (at < len) {
		while (at < len && is_zero(o->buf + at))
			at += OUT_BLOCK;
		for (end = at; end < len && !is_zero(o->buf + end); end += OUT_BLOCK)
			;
		if (end == at)
			break;
		if (end - at > o->max - o->written)
			return err_set(err, EFBIG, "the image has more than %llu bytes of data",
				       (unsigned long long)o->max);
		r = fd_pwrite_all(o->fd, o->buf + at, end - at, (off_t)(o->base + at));
		if (r < 0) {
			errno = -r;
			return err_sys(err, "writing the image");
		}
		o->written += end - at;
		at = end;
	}
	return 0;
}

int out_flush(struct out *o, struct smolvm_error *err)
{
	size_t whole = o->used / OUT_BLOCK * OUT_BLOCK;
	int r = write_blocks(o, whole, err);

	if (r < 0)
		return r;
	memmove(o->buf, o->buf + whole, o->used - whole);
	o->base += whole;
	o->used -= whole;
	return 0;
}

int out_write(struct out *o, const void *data, size_t len, struct smolvm_error *err)
{
	const uint8_t *p = data;
	int r;

	while (len > 0) {
		size_t n = OUT_BUFFER - o->used;

		if (n == 0) {
			r = out_flush(o, err);
			if (r < 0)
				return r;
			continue;
		}
		n = len < n ? len : n;
		memcpy(o->buf + o->used, p, n);
		o->used += n;
		p += n;
		len -= n;
	}
	return 0;
}

int out_zeroes(struct out *o, uint64_t len, struct smolvm_error *err)
{
	int r;

	if (len > OUT_BUFFER - o->used) {
		size_t pad = (OUT_BLOCK - o->used % OUT_BLOCK) % OUT_BLOCK;

		memset(o->buf + o->used, 0, pad);
		o->used += pad;
		len -= pad;
		r = out_flush(o, err);
		if (r < 0)
			return r;
		o->base += len / OUT_BLOCK * OUT_BLOCK;
		len %= OUT_BLOCK;
	}
	memset(o->buf + o->used, 0, len);
	o->used += len;
	return 0;
}

int out_pad(struct out *o, uint32_t align, struct smolvm_error *err)
{
	return out_zeroes(o, (align - o->used % align) % align, err);
}
