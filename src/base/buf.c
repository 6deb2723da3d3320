/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte queue that grows up to a maximum stated when it is made.
 */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST 512

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ .max = b->max };
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : BUF_FIRST;
	uint8_t *data;

	if (n > buf_room(b))
		return NULL;
	if (b->data && b->head + b->len + n <= b->cap)
		return b->data + b->head + b->len;
	/* Moving down is cheap while it at least halves the waste in front. */
	if (b->data && b->len + n <= b->cap && b->head >= b->len) {
		memmove(b->data, b->data + b->head, b->len);
		b->head = 0;
		return b->data + b->len;
	}
	while (cap < b->len + n)
		cap *= 2;
	data = malloc(cap);
	if (!data)
		return NULL;
	if (b->data)
		memcpy(data, b->data + b->head, b->len);
	free(b->data);
	b->data = data;
	b->head = 0;
	b->cap = cap;
	return data + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(b->head + b->len + n <= b->cap);
	b->len += n;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
	uint8_t *p;

	if (n == 0)
		return 0;
	p = buf_reserve(b, n);
	if (!p)
		return n > buf_room(b) ? -ENOBUFS : -ENOMEM;
	memcpy(p, data, n);
	b->len += n;
	return 0;
}

void buf_drop(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	b->head = b->len ? b->head + n : 0;
}
