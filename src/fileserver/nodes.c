/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest knows of the shared tree.
 *
 * A node is no descriptor: it is the identity of an inode (device and number) and the place where
 * it was last seen (name, and the node of the directory). To work on it, its name is opened in its
 * directory, one component at a time and never through a symbolic link, and what is found must be
 * the same inode; otherwise the answer is ESTALE, and the guest's kernel looks the path up anew.
 * Nothing outside the shared tree can be reached in this way. All names of one inode share one
 * node, whose place is the last that was looked up.
 *
 * Directories are kept open, the recently used ones, because nearly every request begins at one.
 * Such a descriptor could outlive the directory's place in the tree. So once a second it is
 * compared with what is at its place, and if that is something else, it must at least still be
 * somewhere below the root.
 *
 * A node lives while the guest has not forgotten it, while it is open, and while another node has
 * its place in it. Places form a tree also when the host moves directories in between two looks:
 * a place that would close a circle takes the place of the node in between away.
 */
#include "fileserver/nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "fileserver/server.h"

#define TABLE_FIRST 1024u
#define SLOTS_MIN   8u
#define TRIM_NODES  65536u /* so many nodes are worth giving their memory back */

static struct node *by_index(const struct fileserver *fs, uint32_t index)
{
	return index != NODE_NONE ? fs->nodes.table[index].node : NULL;
}

/* ---- identity ---- */

static uint32_t bucket_of(const struct nodes *t, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev << 40) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(h >> 32) & (t->n_buckets - 1);
}

static void hash_in(struct nodes *t, struct node *n)
{
	uint32_t *bucket = &t->buckets[bucket_of(t, n->dev, n->ino)];

	n->chain = *bucket;
	*bucket = n->index;
}

static void hash_out(struct nodes *t, const struct node *n)
{
	uint32_t *link = &t->buckets[bucket_of(t, n->dev, n->ino)];

	while (*link != n->index)
		link = &t->table[*link].node->chain;
	*link = n->chain;
}

/* Room for one more node: twice the table, and as many buckets. */
static int table_grow(struct nodes *t)
{
	uint32_t cap = t->cap > 0 ? t->cap * 2 : TABLE_FIRST;
	uint32_t *buckets = calloc(cap, sizeof(*buckets));
	struct node_entry *table = realloc(t->table, cap * sizeof(*table));

	if (table != NULL)
		t->table = table;
	if (table == NULL || buckets == NULL) {
		free(buckets);
		return -ENOMEM;
	}
	memset(table + t->cap, 0, (cap - t->cap) * sizeof(*table));
	free(t->buckets);
	t->buckets = buckets;
	t->n_buckets = cap;
	t->cap = cap;
	for (uint32_t i = NODE_ROOT; i < t->top; i++) {
		if (table[i].node != NULL)
			hash_in(t, table[i].node);
	}
	return 0;
}

static struct node *node_new(struct nodes *t, const struct stat *st)
{
	struct node *n;
	uint32_t i;

	if (t->count >= NODES_MAX)
		return NULL;
	if (t->free == 0 && t->top == t->cap && table_grow(t) < 0)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return NULL;
	if (t->free != 0) {
		i = t->free;
		t->free = t->table[i].next;
	} else {
		i = t->top++;
	}
	t->table[i].node = n;
	t->count++;
	if (t->count > t->peak)
		t->peak = t->count;
	n->index = i;
	n->dev = st->st_dev;
	n->ino = st->st_ino;
	n->type = st->st_mode & S_IFMT;
	hash_in(t, n);
	return n;
}

bool node_is(const struct node *n, const struct stat *st)
{
	return n->ino == st->st_ino && n->dev == st->st_dev && n->type == (st->st_mode & S_IFMT);
}

struct node *node_get(struct fileserver *fs, uint64_t nodeid)
{
	uint32_t i = (uint32_t)nodeid;

	if (i == NODE_NONE || i >= fs->nodes.top || fs->nodes.table[i].gen != nodeid >> 32)
		return NULL;
	return fs->nodes.table[i].node;
}

uint64_t node_id(const struct fileserver *fs, const struct node *n)
{
	return (uint64_t)fs->nodes.table[n->index].gen << 32 | n->index;
}

struct node *node_find(struct fileserver *fs, const struct stat *st)
{
	const struct nodes *t = &fs->nodes;
	uint32_t i = t->buckets[bucket_of(t, st->st_dev, st->st_ino)];

	while (i != NODE_NONE && !node_is(t->table[i].node, st))
		i = t->table[i].node->chain;
	return by_index(fs, i);
}

/* ---- places ---- */

static void unplace(struct fileserver *fs, struct node *n)
{
	struct node *parent = by_index(fs, n->parent);

	n->parent = NODE_NONE;
	free(n->name);
	n->name = NULL;
	if (parent != NULL) {
		parent->children--;
		node_put(fs, parent);
	}
}

/* Take the place of whatever has its own in @n away from those above @dir. */
static void break_circle(struct fileserver *fs, const struct node *n, struct node *dir)
{
	while (dir != NULL && dir != n) {
		if (dir->parent == n->index) {
			unplace(fs, dir);
			return;
		}
		dir = by_index(fs, dir->parent);
	}
}

void node_place(struct fileserver *fs, struct node *n, struct node *parent, const char *name)
{
	char *copy;

	if (n->index == NODE_ROOT || parent == n)
		return;
	if (n->parent == parent->index && n->name != NULL && strcmp(n->name, name) == 0)
		return;
	copy = strdup(name);
	n->nlookup++; /* so that both stay */
	parent->children++;
	if (n->type == S_IFDIR)
		break_circle(fs, n, parent);
	unplace(fs, n);
	n->parent = parent->index;
	n->name = copy;
	if (copy == NULL)
		unplace(fs, n);
	n->nlookup--;
}

struct node *node_found(struct fileserver *fs, struct node *parent, const char *name,
			const struct stat *st)
{
	struct node *n = node_find(fs, st);

	if (n == NULL)
		n = node_new(&fs->nodes, st);
	if (n != NULL)
		node_place(fs, n, parent, name);
	return n;
}

/* ---- cached descriptors of directories ---- */

static void slot_unlink(struct nodes *t, uint32_t s)
{
	t->slots[t->slots[s].prev].next = t->slots[s].next;
	t->slots[t->slots[s].next].prev = t->slots[s].prev;
}

static void slot_to_front(struct nodes *t, uint32_t s)
{
	struct node_slot *head = &t->slots[0];

	t->slots[s].prev = 0;
	t->slots[s].next = head->next;
	t->slots[head->next].prev = s;
	head->next = s;
}

static void slot_drop(struct nodes *t, uint32_t s)
{
	slot_unlink(t, s);
	close(t->slots[s].fd);
	t->slots[s].fd = -1;
	t->table[t->slots[s].node].node->slot = 0;
	t->slots[s].next = t->slot_free;
	t->slot_free = s;
}

/* The one not used for the longest time that may go; 0 when there is none. */
static uint32_t slot_oldest(const struct nodes *t)
{
	uint32_t s = t->slots[0].prev;

	return s != 0 && s == t->pinned ? t->slots[s].prev : s;
}

/* Takes @fd over. */
static void slot_set(struct fileserver *fs, struct node *n, int fd)
{
	struct nodes *t = &fs->nodes;
	uint32_t s;

	if (t->slot_free == 0)
		slot_drop(t, slot_oldest(t));
	s = t->slot_free;
	t->slot_free = t->slots[s].next;
	t->slots[s].fd = fd;
	t->slots[s].node = n->index;
	t->slots[s].checked_ms = fs->now_ms;
	n->slot = s;
	slot_to_front(t, s);
}

/* openat() of a name in a directory, making room when the process has too many files open. */
static int open_in(struct fileserver *fs, int dir_fd, const char *name, int flags)
{
	struct nodes *t = &fs->nodes;

	for (;;) {
		int fd = openat(dir_fd, name, flags | O_PATH | O_NOFOLLOW | O_CLOEXEC);
		uint32_t oldest;

		if (fd >= 0 || errno != EMFILE)
			return fd >= 0 ? fd : -errno;
		oldest = slot_oldest(t);
		if (oldest == 0 || t->slots[oldest].fd == dir_fd)
			return -EMFILE;
		slot_drop(t, oldest);
	}
}

static int stale(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP ? -ESTALE : -error;
}

/* Is the directory @fd still somewhere below the root? */
static bool inside(const struct fileserver *fs, int fd)
{
	const struct node *root = by_index(fs, NODE_ROOT);
	AUTO_FD up = -1;
	struct stat st, above;

	if (fstat(fd, &st) < 0)
		return false;
	for (unsigned int depth = 0; depth < NODE_DEPTH_MAX && !node_is(root, &st); depth++) {
		int next = openat(up >= 0 ? up : fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (next < 0)
			return false;
		fd_close(&up);
		up = next;
		if (fstat(up, &above) < 0 ||
		    (above.st_ino == st.st_ino && above.st_dev == st.st_dev))
			return false;
		st = above;
	}
	return node_is(root, &st);
}

static bool slot_fresh(const struct fileserver *fs, const struct node *n)
{
	return n->slot != 0 &&
	       fs->now_ms - fs->nodes.slots[n->slot].checked_ms < NODE_CHECK_MS;
}

/* @n has a descriptor that was not checked for a while; @base is its directory's, or -1. */
static int slot_check(struct fileserver *fs, struct node *n, int base)
{
	struct node_slot *slot = &fs->nodes.slots[n->slot];
	struct stat st;

	if ((base >= 0 && n->name != NULL &&
	     fstatat(base, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && node_is(n, &st)) ||
	    inside(fs, slot->fd)) {
		slot->checked_ms = fs->now_ms;
		return 0;
	}
	slot_drop(&fs->nodes, n->slot);
	return -ESTALE;
}

/* Open directory @n, whose own directory is the root or open. */
static int dir_refresh(struct fileserver *fs, struct node *n)
{
	const struct node *parent = by_index(fs, n->parent);
	int base = -1, fd;
	struct stat st;

	if (parent != NULL && parent->index == NODE_ROOT)
		base = fs->root_fd;
	else if (parent != NULL && slot_fresh(fs, parent))
		base = fs->nodes.slots[parent->slot].fd;
	if (n->slot != 0)
		return slot_check(fs, n, base);
	if (base < 0 || n->name == NULL)
		return -ESTALE;
	fd = open_in(fs, base, n->name, O_DIRECTORY);
	if (fd < 0)
		return stale(-fd);
	if (fstat(fd, &st) < 0 || !node_is(n, &st)) {
		close(fd);
		return -ESTALE;
	}
	slot_set(fs, n, fd);
	return 0;
}

int node_dir_fd(struct fileserver *fs, struct node *n)
{
	if (n->index == NODE_ROOT)
		return fs->root_fd;
	if (n->type != S_IFDIR)
		return -ENOTDIR;
	while (!slot_fresh(fs, n)) {
		struct node *top = n, *up;
		unsigned int depth = 0;
		int r;

		/* The highest one that is not open yet: each round opens one more. */
		while ((up = by_index(fs, top->parent)) != NULL && up->index != NODE_ROOT &&
		       !slot_fresh(fs, up)) {
			if (++depth > NODE_DEPTH_MAX)
				return -ENAMETOOLONG;
			top = up;
		}
		r = dir_refresh(fs, top);
		if (r < 0 && top != n && n->slot != 0)
			r = slot_check(fs, n, -1); /* its place is lost, but it is in the tree */
		if (r < 0)
			return r;
	}
	if (fs->nodes.slots[0].next != n->slot) {
		slot_unlink(&fs->nodes, n->slot);
		slot_to_front(&fs->nodes, n->slot);
	}
	return fs->nodes.slots[n->slot].fd;
}

void node_pin(struct fileserver *fs, const struct node *n)
{
	fs->nodes.pinned = n != NULL ? n->slot : 0;
}

/* ---- descriptors and attributes of any node ---- */

/* The descriptor of the directory that @n has its place in. */
static int place_fd(struct fileserver *fs, const struct node *n)
{
	struct node *parent = by_index(fs, n->parent);

	return parent != NULL && n->name != NULL ? node_dir_fd(fs, parent) : -ESTALE;
}

int node_open_name(struct fileserver *fs, struct node *n, struct stat *st)
{
	int base = place_fd(fs, n), fd;

	if (base < 0)
		return base;
	fd = open_in(fs, base, n->name, 0);
	if (fd < 0)
		return stale(-fd);
	if (fstat(fd, st) < 0 || !node_is(n, st)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

int node_fd(struct fileserver *fs, struct node *n, struct node_fd *ret)
{
	struct stat st;
	int fd = handle_of_node(fs, n);

	*ret = (struct node_fd)NODE_FD_INIT;
	if (n->index == NODE_ROOT) {
		fd = fs->root_fd;
	} else if (fd >= 0) {
		ret->real = true;
	} else if (n->type == S_IFDIR) {
		fd = node_dir_fd(fs, n);
	} else {
		fd = node_open_name(fs, n, &st);
		ret->owned = fd >= 0;
	}
	ret->fd = fd;
	return fd < 0 ? fd : 0;
}

void node_fd_done(struct node_fd *nfd)
{
	if (nfd->owned)
		close(nfd->fd);
	*nfd = (struct node_fd)NODE_FD_INIT;
}

int node_stat(struct fileserver *fs, struct node *n, struct stat *st)
{
	int fd = n->index == NODE_ROOT ? fs->root_fd : handle_of_node(fs, n);

	if (fd < 0 && n->type == S_IFDIR) {
		fd = node_dir_fd(fs, n);
		if (fd < 0)
			return fd;
	}
	if (fd >= 0)
		return fstat(fd, st) < 0 ? -errno : 0;
	fd = place_fd(fs, n);
	if (fd < 0)
		return fd;
	if (fstatat(fd, n->name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return stale(errno);
	return node_is(n, st) ? 0 : -ESTALE;
}

/* ---- lifetime ---- */

/* Small pieces stay with the allocator until it is told to look for whole free pages. */
static void trim(struct nodes *t)
{
	if (t->peak < TRIM_NODES || t->count > t->peak / 4)
		return;
	t->peak = t->count;
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void node_put(struct fileserver *fs, struct node *n)
{
	struct nodes *t = &fs->nodes;

	while (n != NULL && n->index != NODE_ROOT && n->nlookup == 0 && n->children == 0 &&
	       n->handles == 0) {
		struct node *parent = by_index(fs, n->parent);
		struct node_entry *entry = &t->table[n->index];

		if (n->slot != 0)
			slot_drop(t, n->slot);
		hash_out(t, n);
		entry->gen++;
		entry->node = NULL;
		entry->next = t->free;
		t->free = n->index;
		t->count--;
		free(n->name);
		free(n);
		if (parent != NULL)
			parent->children--;
		n = parent;
	}
	trim(t);
}

void node_forget(struct fileserver *fs, struct node *n, uint64_t count)
{
	n->nlookup -= count < n->nlookup ? count : n->nlookup;
	node_put(fs, n);
}

int nodes_init(struct fileserver *fs, uint32_t fd_limit, const struct stat *root)
{
	struct nodes *t = &fs->nodes;

	if (fd_limit > NODE_FDS_MAX)
		fd_limit = NODE_FDS_MAX;
	if (fd_limit < SLOTS_MIN)
		fd_limit = SLOTS_MIN;
	t->slot_cap = fd_limit;
	t->slots = calloc(fd_limit + 1, sizeof(*t->slots));
	if (t->slots == NULL || table_grow(t) < 0)
		return -ENOMEM;
	for (uint32_t s = 1; s <= fd_limit; s++) {
		t->slots[s].fd = -1;
		t->slots[s].next = t->slot_free;
		t->slot_free = s;
	}
	t->top = NODE_ROOT;
	return node_new(t, root) != NULL ? 0 : -ENOMEM;
}

void nodes_fini(struct nodes *t)
{
	for (uint32_t i = NODE_ROOT; i < t->top; i++) {
		if (t->table[i].node != NULL)
			free(t->table[i].node->name);
		free(t->table[i].node);
	}
	for (uint32_t s = 1; t->slots != NULL && s <= t->slot_cap; s++) {
		if (t->slots[s].fd >= 0)
			close(t->slots[s].fd);
	}
	free(t->table);
	free(t->buckets);
	free(t->slots);
	*t = (struct nodes){ 0 };
}
