/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte queue that grows up to a maximum stated when it is made.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct buf - bytes in order: written at the tail, taken from the head.
 * @data: the allocation, or NULL while empty and unused.
 * @head: offset of the first byte.
 * @len:  bytes held.
 * @cap:  size of the allocation.
 * @max:  the most bytes it will ever hold.
 *
 * Not thread-safe. Memory is allocated on first use and given back by buf_fini().
 */
struct buf {
	uint8_t *data;
	size_t head, len, cap, max;
};

/** buf_init() - an empty queue of at most @max bytes; allocates nothing. */
void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);

/** buf_peek() - the bytes held; valid until the next call that adds; may be NULL while empty. */
static inline uint8_t *buf_peek(const struct buf *b)
{
	return b->data ? b->data + b->head : NULL;
}

static inline size_t buf_room(const struct buf *b)
{
	return b->max - b->len;
}

/**
 * buf_reserve() - room for @n more bytes in one piece at the tail.
 *
 * Return: where to write them (then call buf_commit()), or NULL when @max would be passed or
 * memory cannot be had.
 */
uint8_t *buf_reserve(struct buf *b, size_t n);

/** buf_commit() - count @n bytes written at what buf_reserve() returned. */
void buf_commit(struct buf *b, size_t n);

/** buf_add() - append. Return: 0, -ENOBUFS over the maximum, -ENOMEM. */
int buf_add(struct buf *b, const void *data, size_t n);

/** buf_drop() - take @n bytes (at most len) off the head. */
void buf_drop(struct buf *b, size_t n);

#endif
