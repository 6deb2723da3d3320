/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest knows of the shared tree: one node for each file that it has looked up.
 */
#ifndef FILESERVER_NODES_H
#define FILESERVER_NODES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* The most files a guest may know at once; a lookup beyond gives ENOMEM. */
#define NODES_MAX (4u << 20)
/* The most directories kept open at once (a quarter of RLIMIT_NOFILE where that is less). */
#define NODE_FDS_MAX 4096u
/* How deep below the root a directory can still be reached. */
#define NODE_DEPTH_MAX 65536u
/* After this time a directory that is held open is looked for again at its place. */
#define NODE_CHECK_MS 1000

#define NODE_NONE 0u
#define NODE_ROOT 1u /* FUSE_ROOT_ID */

struct fileserver;

/**
 * struct node - one file, directory or other inode. About 80 bytes and its name.
 * @dev, @ino: which one it is on the host.
 * @nlookup:   how often the guest was told of it, less what it has forgotten.
 * @told_ns:   the ctime that the guest was told last.
 * @clean_ns:  the ctime for which the guest's cached pages are known to be right; 0: none is.
 * @name:      its name in @parent when last seen; NULL: at no known place.
 * @index:     its place in the table; @parent: that of the directory it was seen in.
 * @chain:     next node in the same hash bucket.
 * @children:  nodes whose @parent it is.
 * @handles:   its first open handle; 0: none.
 * @slot:      where its descriptor is cached (directories only); 0: nowhere.
 * @type:      S_IFMT bits.
 * @listed:    the guest was last told of it by READDIRPLUS, and may use that for a while.
 */
struct node {
	uint64_t dev, ino, nlookup;
	int64_t told_ns, clean_ns;
	char *name;
	uint32_t index, parent, chain, children, handles, slot;
	uint32_t type;
	bool listed;
};

struct node_entry {
	struct node *node;
	uint32_t gen;  /* counts the uses of this index */
	uint32_t next; /* of the free list */
};

/* One cached directory descriptor; slot 0 is the head of the list, most recently used first. */
struct node_slot {
	int fd;
	uint32_t node, prev, next;
	int64_t checked_ms;
};

/**
 * struct nodes - all nodes, found by number and by identity, and the descriptors cached for some.
 * @peak:   the most nodes since memory was last given back.
 * @pinned: a slot that must outlive the search for another (0: none).
 */
struct nodes {
	struct node_entry *table;
	uint32_t cap, count, peak, top, free;
	uint32_t *buckets;
	uint32_t n_buckets;
	struct node_slot *slots;
	uint32_t slot_cap, slot_free, pinned;
};

/**
 * struct node_fd - a descriptor on a node, perhaps only borrowed.
 * @fd:    O_PATH, unless @real.
 * @owned: close it.
 * @real:  opened for reading or writing.
 */
struct node_fd {
	int fd;
	bool owned, real;
};

#define NODE_FD_INIT { -1, false, false }

/** nodes_init() - a table with the root in it. Return: 0 or -ENOMEM. */
int nodes_init(struct fileserver *fs, uint32_t fd_limit, const struct stat *root);
void nodes_fini(struct nodes *t);

/** node_get() - the node that the guest calls @nodeid, or NULL (answer: ESTALE). */
struct node *node_get(struct fileserver *fs, uint64_t nodeid);

/** node_id() - what the guest calls @n. */
uint64_t node_id(const struct fileserver *fs, const struct node *n);

/** node_find() - the node of the file that @st describes, or NULL. */
struct node *node_find(struct fileserver *fs, const struct stat *st);

/**
 * node_found() - @name in @parent is the file that @st describes: its node, made when new.
 *
 * The caller counts one lookup (nlookup++) once it tells the guest.
 * Return: NULL when there are too many or memory cannot be had (answer: ENOMEM).
 */
struct node *node_found(struct fileserver *fs, struct node *parent, const char *name,
			const struct stat *st);

/** node_place() - from now on @n is @name in @parent. Without memory it is at no known place. */
void node_place(struct fileserver *fs, struct node *n, struct node *parent, const char *name);

/** node_forget() - take @count off the lookups. The node may be gone afterwards. */
void node_forget(struct fileserver *fs, struct node *n, uint64_t count);

/** node_put() - free @n, and what above it then has no use, unless something needs it. */
void node_put(struct fileserver *fs, struct node *n);

/** node_is() - does @st describe the inode of @n? */
bool node_is(const struct node *n, const struct stat *st);

/**
 * node_dir_fd() - an O_PATH descriptor of a directory, to use before the next call that takes one
 * (or pin it).
 *
 * Return: the descriptor (the cache's), -ENOTDIR, -ESTALE when it is no longer in the tree where
 * it was, or another -errno.
 */
int node_dir_fd(struct fileserver *fs, struct node *n);

/** node_pin() - keep the descriptor of directory @n through other calls; NULL: none any more. */
void node_pin(struct fileserver *fs, const struct node *n);

/**
 * node_open_name() - @n by its name, checked to be @n still: an O_PATH descriptor of the caller's.
 * @st: filled in.
 *
 * Return: the descriptor, -ESTALE, or another -errno.
 */
int node_open_name(struct fileserver *fs, struct node *n, struct stat *st);

/**
 * node_fd() - a descriptor of @n by whatever way is the shortest; works for an unlinked file that
 * is still open. Give it back with node_fd_done(). Return: 0 or -errno.
 */
int node_fd(struct fileserver *fs, struct node *n, struct node_fd *ret);
void node_fd_done(struct node_fd *nfd);

/** node_stat() - attributes of @n. Return: 0 or -errno (-ESTALE when it is gone). */
int node_stat(struct fileserver *fs, struct node *n, struct stat *st);

#endif
