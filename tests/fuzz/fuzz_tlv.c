/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as messages whose bodies are lists of values: nothing read lies outside, and what was read
 * gives the same bytes when written again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/msg.h"
#include "proto/tlv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_list(const uint8_t *p, size_t n, int depth)
{
	struct tlv_reader r;
	struct buf again;
	struct tlv t;
	uint64_t v;
	int rc;

	buf_init(&again, n);
	tlv_reader_init(&r, p, n);
	while ((rc = tlv_next(&r, &t)) == 1) {
		char *s = NULL;

		assert(t.data >= p && t.data + t.len <= p + n);
		if (tlv_u64(&t, &v) == 0)
			assert(tlv_put_u64(&again, t.key, v) == 0);
		else if (tlv_str(&t, &s) == 0)
			assert(strlen(s) == t.len && tlv_put_str(&again, t.key, s) == 0);
		else
			assert(tlv_put(&again, t.key, t.data, t.len) == 0);
		free(s);
		if (depth < 3)
			read_list(t.data, t.len, depth + 1);
	}
	assert(rc < 0 || again.len == n);
	assert(again.len == 0 || memcmp(buf_peek(&again), p, again.len) == 0);
	buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg m;
	long n;

	while ((n = msg_parse(data, size, 1u << 16, &m)) > 0) {
		uint8_t header[MSG_HEADER];

		assert((size_t)n <= size && m.body + m.len == data + n);
		msg_header(header, m.type, m.len);
		assert(memcmp(header, data, MSG_HEADER) == 0);
		read_list(m.body, m.len, 0);
		data += n;
		size -= (size_t)n;
	}
	return 0;
}
