/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing whole messages to a stream that takes only so many bytes at a time.
 */
#include "agent/sender.h"

#include <errno.h>
#include <string.h>

#include "proto/agent.h"
#include "proto/msg.h"
#include "proto/tlv.h"

#define SHORT_MAX   64u
#define FAILURE_MAX 1024u

void sender_init(struct sender *sd, struct stream *s, size_t max)
{
	sd->stream = s;
	buf_init(&sd->rest, max);
}

void sender_fini(struct sender *sd)
{
	sd->stream = NULL;
	buf_fini(&sd->rest);
}

int sender_put(struct sender *sd, const void *p, size_t n)
{
	size_t taken = 0;

	if (!sd->stream)
		return 0;
	if (sd->rest.len == 0)
		taken = stream_write(sd->stream, p, n);
	return buf_add(&sd->rest, (const uint8_t *)p + taken, n - taken);
}

int sender_message(struct sender *sd, uint8_t type, const void *body, size_t n)
{
	uint8_t m[MSG_HEADER + SHORT_MAX];

	if (n > SHORT_MAX)
		return -ENOBUFS;
	msg_header(m, type, (uint32_t)n);
	if (n)
		memcpy(m + MSG_HEADER, body, n);
	return sender_put(sd, m, MSG_HEADER + n);
}

int sender_failure(struct sender *sd, uint8_t type, const struct smolvm_error *err)
{
	struct buf b;
	int rc;

	buf_init(&b, FAILURE_MAX);
	buf_reserve(&b, MSG_HEADER);
	if (!b.data)
		return -ENOMEM;
	buf_commit(&b, MSG_HEADER);
	rc = tlv_put_u64(&b, FAILURE_ERRNO, (uint64_t)err->code);
	if (rc == 0)
		rc = tlv_put_str(&b, FAILURE_TEXT, err->message);
	if (rc == 0) {
		msg_header(buf_peek(&b), type, (uint32_t)(b.len - MSG_HEADER));
		rc = sender_put(sd, buf_peek(&b), b.len);
	}
	buf_fini(&b);
	return rc;
}

bool sender_flush(struct sender *sd)
{
	if (sd->stream && sd->rest.len)
		buf_drop(&sd->rest, stream_write(sd->stream, buf_peek(&sd->rest), sd->rest.len));
	return sd->rest.len == 0;
}
