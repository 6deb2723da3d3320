/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip through zlib. libarchive reads gzip too, but does not compare the checksum at the end, so a
 * flipped bit in a plain .tar.gz would go unnoticed.
 */
#include "image/gzip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/err.h"

#define GZIP_OUT_BYTES (256u << 10)

struct gzip {
	struct tar_source source;
	z_stream z;
	bool in_member; /* a header was begun and its trailer not yet seen */
	bool any;       /* one member was read to its end */
	bool over;
	unsigned char out[GZIP_OUT_BYTES];
};

int gzip_open(struct gzip **ret, const struct tar_source *source, struct smolvm_error *err)
{
	struct gzip *g = calloc(1, sizeof(*g));

	if (!g)
		return err_nomem(err);
	g->source = *source;
	if (inflateInit2(&g->z, 15 + 16) != Z_OK) {
		free(g);
		return err_nomem(err);
	}
	*ret = g;
	return 0;
}

void gzip_close(struct gzip *g)
{
	if (!g)
		return;
	inflateEnd(&g->z);
	free(g);
}

/* More input; 1, 0 at the end of the source. */
static int refill(struct gzip *g, struct smolvm_error *err)
{
	const void *block;
	ssize_t n = g->source.read(g->source.ctx, &block, err);

	if (n <= 0)
		return (int)n;
	g->z.next_in = (unsigned char *)block;
	g->z.avail_in = (unsigned int)n;
	return 1;
}

/* Between members: does another one begin? Padding and anything else after them is dropped. */
static int next_member(struct gzip *g, struct smolvm_error *err)
{
	int r;

	while (g->z.avail_in == 0) {
		r = refill(g, err);
		if (r <= 0)
			return r;
	}
	if (g->any && g->z.next_in[0] != 0x1f)
		return 0;
	if (g->any && inflateReset(&g->z) != Z_OK)
		return err_set(err, EINVAL, "gzip: the decompressor cannot be reset");
	g->in_member = true;
	return 1;
}

/* The source is read to its end whatever comes after the data: its reader may be hashing it. */
static ssize_t drain(struct gzip *g, struct smolvm_error *err)
{
	int r;

	g->over = true;
	do
		r = refill(g, err);
	while (r > 0);
	return r;
}

ssize_t gzip_read(struct gzip *g, const void **ret_block, struct smolvm_error *err)
{
	int r;

	if (g->over)
		return 0;
	g->z.next_out = g->out;
	g->z.avail_out = sizeof(g->out);
	while (g->z.avail_out > 0) {
		r = g->in_member ? 1 : next_member(g, err);
		if (r < 0)
			return r;
		if (r == 0 && g->z.avail_out == sizeof(g->out))
			return drain(g, err);
		if (r == 0)
			break;
		if (g->z.avail_in == 0 && (r = refill(g, err)) < 0)
			return r;
		if (g->z.avail_in == 0)
			return err_set(err, EINVAL, "gzip: the stream is truncated");
		r = inflate(&g->z, Z_NO_FLUSH);
		if (r == Z_STREAM_END) {
			g->in_member = false;
			g->any = true;
		} else if (r != Z_OK) {
			return err_set(err, r == Z_MEM_ERROR ? ENOMEM : EINVAL, "gzip: %s",
				       g->z.msg ? g->z.msg : "damaged data");
		}
	}
	*ret_block = g->out;
	return (ssize_t)(sizeof(g->out) - g->z.avail_out);
}
