/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the file tree: numbered items of one size, and bytes that stay; both count what they
 * take against one budget and give 32-bit references instead of pointers.
 */
#ifndef IMAGE_POOL_H
#define IMAGE_POOL_H

#include <stddef.h>
#include <stdint.h>

/** struct budget - bytes that may still be taken. */
struct budget {
	uint64_t left;
};

/**
 * struct pool - items of @size bytes, numbered from 1; 0 means none.
 * @chunks: POOL_CHUNK items each; items never move.
 * @free:   number of the first item given back; the next one is in its first four bytes.
 */
struct pool {
	struct budget *budget;
	void **chunks;
	size_t size;
	uint32_t n_chunks, used, free;
};

#define POOL_CHUNK (1u << 14)

void pool_init(struct pool *p, size_t size, struct budget *budget);
void pool_fini(struct pool *p);

/** pool_new() - a zeroed item. Return: its number, or 0 with errno ENOMEM or EFBIG (budget). */
uint32_t pool_new(struct pool *p);

/** pool_drop() - give @item back. */
void pool_drop(struct pool *p, uint32_t item);

static inline void *pool_get(const struct pool *p, uint32_t item)
{
	return (char *)p->chunks[item / POOL_CHUNK] + (size_t)(item % POOL_CHUNK) * p->size;
}

/** struct arena - bytes that are kept until the end. */
struct arena {
	struct budget *budget;
	char **chunks;
	uint32_t n_chunks, used; /* @used: of the last chunk */
};

#define ARENA_CHUNK (1u << 20)

void arena_init(struct arena *a, struct budget *budget);
void arena_fini(struct arena *a);

/**
 * arena_add() - keep a copy of @len bytes (at most ARENA_CHUNK), 4-byte aligned.
 *
 * Return: a reference for arena_get(), or 0 with errno ENOMEM or EFBIG (budget).
 */
uint32_t arena_add(struct arena *a, const void *data, size_t len);

static inline const char *arena_get(const struct arena *a, uint32_t ref)
{
	return a->chunks[ref / (ARENA_CHUNK / 4)] + (size_t)(ref % (ARENA_CHUNK / 4)) * 4;
}

#endif
