/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file tree: each directory's names are a treap, a binary search tree by name that is also a
 * heap by priority. Priorities are a secret permutation of the names' numbers, so the trees are
 * balanced whatever the archive's order, and cost no memory. No function here recurses.
 */
#include "image/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

struct dir_list {
	uint32_t *dirs;
	size_t n, cap;
};

int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (r)
		return r;
	return a_len < b_len ? -1 : a_len > b_len;
}

/* Each step can be undone, so different names have different priorities. */
static uint32_t priority(const struct tree *t, uint32_t name)
{
	uint32_t x = name ^ t->seed;

	x = (x ^ (x >> 16)) * 0x7feb352du;
	x = (x ^ (x >> 15)) * 0x846ca68bu;
	return x ^ (x >> 16);
}

static int compare_to(const struct tree *t, const char *text, size_t len, const struct name *n)
{
	return name_compare(text, len, tree_text(t, n), n->len);
}

static void init_dir(struct inode *i, uint32_t parent, uint16_t depth, uint16_t layer)
{
	i->mode = S_IFDIR | 0755;
	i->dir.parent = parent;
	i->dir.depth = depth;
	i->dir.pruned = layer;
}

int tree_init(struct tree *t, struct budget *budget, uint64_t max_inodes)
{
	uint32_t root = 0;
	int r;

	memset(t, 0, sizeof(*t));
	pool_init(&t->inodes, sizeof(struct inode), budget);
	pool_init(&t->names, sizeof(struct name), budget);
	arena_init(&t->arena, budget);
	t->max_inodes = max_inodes;
	if (getrandom(&t->seed, sizeof(t->seed), GRND_NONBLOCK) != sizeof(t->seed))
		t->seed = (uint32_t)(uintptr_t)t;
	r = tree_new(t, S_IFDIR | 0755, &root);
	if (r < 0)
		return r;
	init_dir(tree_inode(t, root), root, 0, 0);
	tree_inode(t, root)->nlink = 1;
	return 0;
}

void tree_fini(struct tree *t)
{
	pool_fini(&t->inodes);
	pool_fini(&t->names);
	arena_fini(&t->arena);
}

int tree_new(struct tree *t, mode_t mode, uint32_t *ret)
{
	uint32_t inode;

	if (t->n_inodes >= t->max_inodes)
		return -EFBIG;
	inode = pool_new(&t->inodes);
	if (!inode)
		return -errno;
	t->n_inodes++;
	tree_inode(t, inode)->mode = (uint16_t)mode;
	*ret = inode;
	return 0;
}

void tree_drop(struct tree *t, uint32_t inode)
{
	if (t->dropped)
		t->dropped(t->dropped_ctx, tree_inode(t, inode));
	pool_drop(&t->inodes, inode);
	t->n_inodes--;
}

static void unref(struct tree *t, uint32_t inode)
{
	if (--tree_inode(t, inode)->nlink == 0)
		tree_drop(t, inode);
}

uint32_t tree_find(const struct tree *t, uint32_t dir, const char *text, size_t len)
{
	uint32_t name = tree_inode(t, dir)->dir.names;

	while (name) {
		const struct name *n = tree_name(t, name);
		int r = compare_to(t, text, len, n);

		if (r == 0)
			return name;
		name = r < 0 ? n->left : n->right;
	}
	return 0;
}

/* Part the tree @name into what is below @text and what is above. */
static void split(struct tree *t, uint32_t name, const char *text, size_t len, uint32_t *below,
		  uint32_t *above)
{
	while (name) {
		struct name *n = tree_name(t, name);

		if (compare_to(t, text, len, n) > 0) {
			*below = name;
			below = &n->right;
			name = n->right;
		} else {
			*above = name;
			above = &n->left;
			name = n->left;
		}
	}
	*below = 0;
	*above = 0;
}

static void insert(struct tree *t, uint32_t dir, uint32_t name)
{
	struct name *n = tree_name(t, name);
	const char *text = tree_text(t, n);
	uint32_t *at = &tree_inode(t, dir)->dir.names;
	uint32_t prio = priority(t, name);

	while (*at && priority(t, *at) > prio) {
		struct name *here = tree_name(t, *at);

		at = compare_to(t, text, n->len, here) < 0 ? &here->left : &here->right;
	}
	split(t, *at, text, n->len, &n->left, &n->right);
	*at = name;
}

/* Take @name out of the tree of @dir. */
static void take_out(struct tree *t, uint32_t dir, uint32_t name)
{
	const struct name *n = tree_name(t, name);
	uint32_t *at = &tree_inode(t, dir)->dir.names;
	uint32_t a = n->left, b = n->right;

	while (*at != name) {
		struct name *here = tree_name(t, *at);

		at = compare_to(t, tree_text(t, n), n->len, here) < 0 ? &here->left : &here->right;
	}
	while (a && b) {
		if (priority(t, a) > priority(t, b)) {
			*at = a;
			at = &tree_name(t, a)->right;
			a = *at;
		} else {
			*at = b;
			at = &tree_name(t, b)->left;
			b = *at;
		}
	}
	*at = a ? a : b;
}

uint32_t tree_flatten(struct tree *t, uint32_t dir)
{
	uint32_t *head = &tree_inode(t, dir)->dir.names;
	uint32_t *tail = head;

	while (*tail) {
		struct name *n = tree_name(t, *tail);
		uint32_t left = n->left;

		if (left) { /* rotate right */
			struct name *l = tree_name(t, left);

			n->left = l->right;
			l->right = *tail;
			*tail = left;
		} else {
			tail = &n->right;
		}
	}
	return *head;
}

static int list_add(struct dir_list *l, uint32_t dir)
{
	uint32_t *dirs;
	size_t cap;

	if (l->n == l->cap) {
		cap = l->cap ? 2 * l->cap : 64;
		dirs = realloc(l->dirs, cap * sizeof(*dirs));
		if (!dirs)
			return -ENOMEM;
		l->dirs = dirs;
		l->cap = cap;
	}
	l->dirs[l->n++] = dir;
	return 0;
}

/*
 * Forget a directory that lost its name, and all below. Without memory for a list: the names of
 * a directory found in it are put in front of the list that is being worked off.
 */
static void drop_dir(struct tree *t, uint32_t dir)
{
	uint32_t todo = tree_flatten(t, dir);

	tree_drop(t, dir);
	while (todo) {
		struct name *n = tree_name(t, todo);
		uint32_t next = n->right, inode = n->inode;

		pool_drop(&t->names, todo);
		todo = next;
		if (S_ISDIR(tree_inode(t, inode)->mode)) {
			uint32_t inner = tree_flatten(t, inode), last = inner;

			tree_drop(t, inode);
			if (!inner)
				continue;
			while (tree_name(t, last)->right)
				last = tree_name(t, last)->right;
			tree_name(t, last)->right = todo;
			todo = inner;
		} else {
			unref(t, inode);
		}
	}
}

static void drop_target(struct tree *t, uint32_t inode)
{
	if (S_ISDIR(tree_inode(t, inode)->mode))
		drop_dir(t, inode);
	else
		unref(t, inode);
}

int tree_link(struct tree *t, uint32_t dir, const char *text, size_t len, uint32_t inode,
	      uint16_t layer)
{
	struct inode *target = tree_inode(t, inode);
	uint32_t name = tree_find(t, dir, text, len), old;
	struct name *n;

	if (S_ISDIR(target->mode)) {
		if (tree_inode(t, dir)->dir.depth + 1u > TREE_DEPTH_MAX)
			return -ELOOP;
		target->dir.parent = dir;
		target->dir.depth = (uint16_t)(tree_inode(t, dir)->dir.depth + 1);
	}
	if (name) {
		n = tree_name(t, name);
		old = n->inode;
		n->inode = inode;
		n->layer = layer;
		target->nlink++;
		drop_target(t, old);
		return 0;
	}
	name = pool_new(&t->names);
	if (!name)
		return -errno;
	n = tree_name(t, name);
	n->text = arena_add(&t->arena, text, len);
	if (!n->text) {
		pool_drop(&t->names, name);
		return -errno;
	}
	n->len = (uint8_t)len;
	n->inode = inode;
	n->layer = layer;
	target->nlink++;
	insert(t, dir, name);
	return 0;
}

int tree_mkdir(struct tree *t, uint32_t dir, const char *text, size_t len, uint16_t layer,
	       uint32_t *ret)
{
	uint32_t inode = 0;
	int r = tree_new(t, S_IFDIR, &inode);

	if (r < 0)
		return r;
	init_dir(tree_inode(t, inode), dir, 0, layer);
	r = tree_link(t, dir, text, len, inode, layer);
	if (r < 0)
		tree_drop(t, inode);
	else
		*ret = inode;
	return r;
}

/* As if the directory had been made for what is in it, not by an entry of its own. */
static void make_implied(struct inode *i)
{
	i->mode = S_IFDIR | 0755;
	i->uid = i->gid = i->xattrs = 0;
	i->mtime_s = 0;
	i->mtime_ns = 0;
}

/*
 * The directory of an older layer that @name leads to was hidden: it is kept, as an implied one,
 * if @layer brought something into it. Return: whether.
 */
static bool survives(struct tree *t, struct name *n, uint16_t layer)
{
	struct inode *i = tree_inode(t, n->inode);

	if (n->layer == layer)
		return true;
	if (!S_ISDIR(i->mode) || !i->dir.names)
		return false;
	make_implied(i);
	n->layer = layer;
	return true;
}

/* The directories in and below @dir in which something of an older layer may be, parents first. */
static int collect_old(struct tree *t, uint32_t dir, uint16_t layer, struct dir_list *l)
{
	size_t i;
	int r = tree_inode(t, dir)->dir.pruned == layer ? 0 : list_add(l, dir);

	for (i = 0; !r && i < l->n; i++) {
		uint32_t name = tree_flatten(t, l->dirs[i]);

		for (; !r && name; name = tree_name(t, name)->right) {
			const struct inode *in = tree_inode(t, tree_name(t, name)->inode);

			if (S_ISDIR(in->mode) && in->dir.pruned != layer)
				r = list_add(l, tree_name(t, name)->inode);
		}
	}
	return r;
}

/* From the list that tree_flatten() made, a search tree of what survives. */
static void keep_survivors(struct tree *t, uint32_t dir, uint16_t layer)
{
	uint32_t name = tree_inode(t, dir)->dir.names;

	tree_inode(t, dir)->dir.names = 0;
	tree_inode(t, dir)->dir.pruned = layer;
	while (name) {
		struct name *n = tree_name(t, name);
		uint32_t next = n->right;

		if (survives(t, n, layer)) {
			insert(t, dir, name);
		} else {
			drop_target(t, n->inode);
			pool_drop(&t->names, name);
		}
		name = next;
	}
}

/*
 * Each directory is looked at once per layer: afterwards there is nothing of an older layer in it,
 * nor can anything of one come into it.
 */
int tree_hide_below(struct tree *t, uint32_t dir, uint16_t layer)
{
	struct dir_list l = { 0 };
	int r = collect_old(t, dir, layer, &l);

	while (!r && l.n > 0)
		keep_survivors(t, l.dirs[--l.n], layer);
	free(l.dirs);
	return r;
}

int tree_hide(struct tree *t, uint32_t dir, const char *text, size_t len, uint16_t layer)
{
	uint32_t name = tree_find(t, dir, text, len), inode;
	int r;

	if (!name)
		return 0;
	inode = tree_name(t, name)->inode;
	if (S_ISDIR(tree_inode(t, inode)->mode)) {
		r = tree_hide_below(t, inode, layer);
		if (r < 0)
			return r;
	}
	if (survives(t, tree_name(t, name), layer))
		return 0;
	take_out(t, dir, name);
	pool_drop(&t->names, name);
	drop_target(t, inode);
	return 0;
}
