/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first request to the agent: what to mount, and who it is.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "proto/msg.h"
#include "proto/tlv.h"
#include "proto/vmm.h"
#include "vmmproc/vmm.h"

#define ENTROPY_BYTES 64
#define ANSWER_MAX 4096

static void on_answer(void *ctx, struct mux_stream *s, const uint8_t *p, size_t n)
{
	struct vmm *v = ctx;
	struct tlv_reader r;
	struct msg m;
	struct tlv t;
	long len;

	if (v->ready || buf_add(&v->control_in, p, n) < 0)
		return;
	len = msg_parse(buf_peek(&v->control_in), v->control_in.len, ANSWER_MAX, &m);
	if (len == 0)
		return;
	if (len > 0 && m.type == CONTROL_OK) {
		vmm_ready(v);
		return;
	}
	tlv_reader_init(&r, m.body, len > 0 ? m.len : 0);
	while (tlv_next(&r, &t) == 1) {
		if (t.key == FAILURE_TEXT) {
			vmm_end(v, EIO, "in the guest: %.*s", (int)t.len, (const char *)t.data);
			return;
		}
	}
	vmm_end(v, EPROTO, "the guest's answer makes no sense");
}

static void on_ended(void *ctx, struct mux_stream *s)
{
	mux_finish(s);
}

static void on_closed(void *ctx, struct mux_stream *s, int error)
{
	struct vmm *v = ctx;

	if (!v->ready)
		vmm_end(v, EPROTO, "the guest gave no answer%s%s", error ? ": " : "",
			error ? strerror(-error) : "");
}

static const struct mux_stream_events setup_events = {
	.data = on_answer,
	.ended = on_ended,
	.closed = on_closed,
};

/* Time and entropy are as fresh as can be: they are added last. */
static int complete(struct buf *setup)
{
	uint8_t entropy[ENTROPY_BYTES];
	struct timespec now;
	int rc;

	if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
		return -errno;
	rc = tlv_put(setup, SETUP_ENTROPY, entropy, sizeof(entropy));
	if (rc < 0)
		return rc;
	clock_gettime(CLOCK_REALTIME, &now);
	return tlv_put_u64(setup, SETUP_TIME_NS,
			   (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
}

void boot_setup(struct vmm *v)
{
	struct mux_stream *s = mux_open(v->mux, AGENT_PORT_CONTROL, &setup_events, v);
	uint8_t header[MSG_HEADER];

	if (!s || complete(&v->setup) < 0) {
		vmm_end(v, ENOMEM, "out of memory");
		return;
	}
	buf_init(&v->control_in, ANSWER_MAX + MSG_HEADER);
	msg_header(header, CONTROL_SETUP, (uint32_t)v->setup.len);
	/* VMM_SETUP_MAX bytes and what complete() adds fit into the stream's queue at once. */
	mux_write(s, header, sizeof(header));
	mux_write(s, buf_peek(&v->setup), v->setup.len);
}
