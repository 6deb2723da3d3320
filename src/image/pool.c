/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbered items and kept bytes, in chunks that never move.
 */
#include "image/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One more pointer in @table, which holds @n of them; room for powers of two. */
static void *add_chunk(void *table, uint32_t n, size_t bytes, struct budget *budget)
{
	void **grown = table;
	void *chunk;

	if (budget->left < bytes) {
		errno = EFBIG;
		return NULL;
	}
	if ((n & (n - 1)) == 0) {
		grown = realloc(table, (n ? 2 * (size_t)n : 1) * sizeof(*grown));
		if (!grown)
			return NULL;
	}
	chunk = calloc(1, bytes);
	grown[n] = chunk;
	if (chunk)
		budget->left -= bytes;
	return grown;
}

void pool_init(struct pool *p, size_t size, struct budget *budget)
{
	*p = (struct pool){ .size = size, .budget = budget, .used = 1 };
}

void pool_fini(struct pool *p)
{
	uint32_t i;

	for (i = 0; i < p->n_chunks; i++)
		free(p->chunks[i]);
	free(p->chunks);
	memset(p, 0, sizeof(*p));
}

uint32_t pool_new(struct pool *p)
{
	uint32_t item = p->free;
	void **chunks;

	if (item) {
		memcpy(&p->free, pool_get(p, item), sizeof(p->free));
		memset(pool_get(p, item), 0, p->size);
		return item;
	}
	if (p->used / POOL_CHUNK >= p->n_chunks) {
		chunks = add_chunk(p->chunks, p->n_chunks, POOL_CHUNK * p->size, p->budget);
		if (!chunks)
			return 0;
		p->chunks = chunks;
		if (!chunks[p->n_chunks])
			return 0;
		p->n_chunks++;
	}
	return p->used++;
}

void pool_drop(struct pool *p, uint32_t item)
{
	memcpy(pool_get(p, item), &p->free, sizeof(p->free));
	p->free = item;
}

void arena_init(struct arena *a, struct budget *budget)
{
	*a = (struct arena){ .budget = budget, .used = ARENA_CHUNK };
}

void arena_fini(struct arena *a)
{
	uint32_t i;

	for (i = 0; i < a->n_chunks; i++)
		free(a->chunks[i]);
	free(a->chunks);
	memset(a, 0, sizeof(*a));
}

uint32_t arena_add(struct arena *a, const void *data, size_t len)
{
	char **chunks;
	uint32_t ref;

	if (len > ARENA_CHUNK - a->used) {
		/* the very first reference must not be 0 */
		uint32_t begin = a->n_chunks ? 0 : 4;

		if (len > ARENA_CHUNK - begin || a->n_chunks >= UINT32_MAX / (ARENA_CHUNK / 4)) {
			errno = EFBIG;
			return 0;
		}
		chunks = add_chunk(a->chunks, a->n_chunks, ARENA_CHUNK, a->budget);
		if (!chunks)
			return 0;
		a->chunks = chunks;
		if (!chunks[a->n_chunks])
			return 0;
		a->n_chunks++;
		a->used = begin;
	}
	ref = (a->n_chunks - 1) * (ARENA_CHUNK / 4) + a->used / 4;
	memcpy(a->chunks[a->n_chunks - 1] + a->used, data, len);
	a->used += (uint32_t)(len + 3) & ~3u;
	return ref;
}
