/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders that are virtio-fs devices: the host is told who owns their files.
 *
 * The device itself has no word for it, so the folder's port has: the preamble goes to the host,
 * one byte 0 comes back when the file server knows, and only then may the folder be mounted.
 */
#include "agent/share_fs.h"

#include <errno.h>

#include "base/endian.h"

static void answered(struct share_fs_one *one, int result)
{
	struct share_fs *f = one->all;

	one->stream = NULL;
	f->n_pending--;
	if (f->failed || (result == 0 && f->n_pending))
		return;
	f->failed = result < 0;
	f->done(f->ctx, result, one->number);
}

static void on_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	stream_reset(s, 0);
	answered(ctx, n == 1 && p[0] == 0 ? 0 : -EPROTO);
}

static void on_ended(void *ctx, struct stream *s)
{
	stream_reset(s, 0);
	answered(ctx, -ENOENT);
}

static void on_closed(void *ctx, struct stream *s, int error)
{
	(void)s;
	answered(ctx, error < 0 ? error : -ENOENT);
}

static const struct stream_events events = {
	.data = on_data, .ended = on_ended, .closed = on_closed,
};

int share_fs_add(struct agent *a, struct share_fs *f, uint32_t number, uint32_t uid, uint32_t gid)
{
	struct share_fs_one *one = &f->pending[f->n_pending];
	uint8_t preamble[SHARE_PREAMBLE];

	if (f->n_pending == SHARES_MAX)
		return -EINVAL;
	one->all = f;
	one->number = number;
	one->stream = carrier_open(a->carrier, HOST_PORT_SHARE + number, &events, one);
	if (!one->stream)
		return -errno;
	put_le32(preamble, uid);
	put_le32(preamble + 4, gid);
	stream_write(one->stream, preamble, sizeof(preamble));
	f->n_pending++;
	return 0;
}

void share_fs_cancel(struct share_fs *f)
{
	for (unsigned int i = 0; i < SHARES_MAX; i++) {
		if (f->pending[i].stream)
			stream_reset(f->pending[i].stream, -ECANCELED);
		f->pending[i].stream = NULL;
	}
	f->n_pending = 0;
}
