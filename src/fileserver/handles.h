/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files and directories of the guest.
 */
#ifndef FILESERVER_HANDLES_H
#define FILESERVER_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

#define HANDLES_MAX 16384u

struct fileserver;
struct node;

/**
 * struct handle - one OPEN, CREATE or OPENDIR that has not been released.
 * @fd:   the host's descriptor; -1 in a free slot.
 * @gen:  counts the uses of this slot, so that a handle from an earlier use is told apart.
 * @node: index of its node.
 * @next: the next handle of the same node, or the next free slot; 0 ends the list.
 * @dir:  a directory.
 */
struct handle {
	int fd;
	uint32_t gen;
	uint32_t node;
	uint32_t next;
	bool dir;
};

/**
 * struct handles - the table. Slot 0 is never used.
 * @limit: the most handles at once.
 */
struct handles {
	struct handle *slots;
	uint32_t cap, used, free, limit;
};

/**
 * handle_add() - give @fd to a new handle of @n. Takes @fd over on success only.
 *
 * Return: 0 with *@ret_fh set, -ENFILE at the limit, -ENOMEM.
 */
int handle_add(struct fileserver *fs, struct node *n, int fd, bool dir, uint64_t *ret_fh);

/** handle_get() - the handle that the guest calls @fh, or NULL (answer: EBADF). */
struct handle *handle_get(struct fileserver *fs, uint64_t fh, bool dir);

/** handle_drop() - close it. */
void handle_drop(struct fileserver *fs, uint64_t fh, bool dir);

/** handle_of_node() - a descriptor that is open on @n, or -1. */
int handle_of_node(const struct fileserver *fs, const struct node *n);

/** handles_fini() - close all. */
void handles_fini(struct handles *h);

#endif
