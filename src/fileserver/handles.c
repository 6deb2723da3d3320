/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files and directories of the guest: a bounded table of descriptors.
 *
 * What the guest holds is the index of a slot and the number of its use, so that a number it made
 * up, or kept for too long, is refused.
 */
#include "fileserver/handles.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fileserver/server.h"

#define HANDLES_FIRST 64u

static int grow(struct handles *h)
{
	uint32_t cap = h->cap > 0 ? h->cap * 2 : HANDLES_FIRST;
	struct handle *slots = realloc(h->slots, cap * sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	for (uint32_t i = h->cap; i < cap; i++) {
		slots[i] = (struct handle){ .fd = -1, .gen = 1 };
		if (i > 0) {
			slots[i].next = h->free;
			h->free = i;
		}
	}
	h->slots = slots;
	h->cap = cap;
	return 0;
}

int handle_add(struct fileserver *fs, struct node *n, int fd, bool dir, uint64_t *ret_fh)
{
	struct handles *h = &fs->handles;
	struct handle *slot;
	uint32_t i;

	if (h->used >= h->limit)
		return -ENFILE;
	if (h->free == 0) {
		int r = grow(h);

		if (r < 0)
			return r;
	}
	i = h->free;
	slot = &h->slots[i];
	h->free = slot->next;
	h->used++;
	slot->fd = fd;
	slot->dir = dir;
	slot->node = n->index;
	slot->next = n->handles;
	n->handles = i;
	*ret_fh = (uint64_t)slot->gen << 32 | i;
	return 0;
}

struct handle *handle_get(struct fileserver *fs, uint64_t fh, bool dir)
{
	uint32_t i = (uint32_t)fh;
	struct handle *slot;

	if (i == 0 || i >= fs->handles.cap)
		return NULL;
	slot = &fs->handles.slots[i];
	if (slot->fd < 0 || slot->gen != fh >> 32 || slot->dir != dir)
		return NULL;
	return slot;
}

void handle_drop(struct fileserver *fs, uint64_t fh, bool dir)
{
	struct handle *slot = handle_get(fs, fh, dir);
	struct handles *h = &fs->handles;
	struct node *n;
	uint32_t *link;

	if (slot == NULL)
		return;
	n = fs->nodes.table[slot->node].node;
	for (link = &n->handles; *link != (uint32_t)fh; link = &h->slots[*link].next)
		;
	*link = slot->next;
	close(slot->fd);
	slot->fd = -1;
	slot->gen++;
	slot->next = h->free;
	h->free = (uint32_t)fh;
	h->used--;
	node_put(fs, n);
}

int handle_of_node(const struct fileserver *fs, const struct node *n)
{
	return n->handles != 0 ? fs->handles.slots[n->handles].fd : -1;
}

void handles_fini(struct handles *h)
{
	for (uint32_t i = 1; i < h->cap; i++) {
		if (h->slots[i].fd >= 0)
			close(h->slots[i].fd);
	}
	free(h->slots);
	*h = (struct handles){ 0 };
}
