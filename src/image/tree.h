/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file tree of an image while its layers are applied: inodes and the names that lead to them.
 */
#ifndef IMAGE_TREE_H
#define IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/pool.h"

#define TREE_NAME_MAX  255u
#define TREE_DEPTH_MAX 4096u /* directories in each other */
#define TREE_ROOT      1u    /* inode number of the root */

/* Where the bytes of a regular file are. */
enum inode_place {
	PLACE_NONE,   /* there are none */
	PLACE_SPOOL,  /* at offset @file.pos of the spool; to be put beside the inode */
	PLACE_BLOCKS, /* from block @file.pos of the image on */
};

/**
 * struct inode - a file.
 * @xattrs: reference to its encoded attributes (xattrs.h), or 0.
 * @nlink:  names that lead here; a directory has one.
 * @nid:    number in the image, once it has been laid out.
 */
struct inode {
	int64_t mtime_s;
	union {
		struct {
			uint64_t size, pos;
		} file;
		struct {
			uint32_t target; /* in the arena */
			uint32_t len;
			uint32_t first_block; /* see erofs.c */
		} link;
		struct {
			uint32_t major, minor;
		} dev;
		struct {
			uint32_t names;  /* root of the search tree of its names */
			uint32_t parent; /* the root's is itself */
			uint16_t depth;
			uint16_t pruned; /* layer in which what is below was last hidden */
			uint32_t subdirs, blocks, tail, first_block; /* see erofs.c */
		} dir;
	};
	uint32_t mtime_ns, uid, gid, xattrs, nlink, nid;
	uint16_t mode;
	uint16_t place;
};

/**
 * struct name - a directory entry; a node of its directory's search tree.
 * @layer: the layer that set it last.
 */
struct name {
	uint32_t text;
	uint32_t inode;
	uint32_t left, right;
	uint16_t layer;
	uint8_t len;
};

/**
 * struct tree
 * @n_inodes:  live ones, at most @max_inodes.
 * @dropped:   called for each inode whose last name went, before it is forgotten.
 */
struct tree {
	struct pool inodes, names;
	struct arena arena;
	uint32_t seed;
	uint64_t n_inodes, max_inodes;
	void (*dropped)(void *ctx, const struct inode *i);
	void *dropped_ctx;
};

/** tree_init() - a tree with nothing but a root (0755, 0:0). Return: 0, -ENOMEM, -EFBIG. */
int tree_init(struct tree *t, struct budget *budget, uint64_t max_inodes);
void tree_fini(struct tree *t);

static inline struct inode *tree_inode(const struct tree *t, uint32_t inode)
{
	return pool_get(&t->inodes, inode);
}

static inline struct name *tree_name(const struct tree *t, uint32_t name)
{
	return pool_get(&t->names, name);
}

static inline const char *tree_text(const struct tree *t, const struct name *n)
{
	return arena_get(&t->arena, n->text);
}

/** tree_new() - an inode that no name leads to yet. Return: 0, -ENOMEM, -EFBIG. */
int tree_new(struct tree *t, mode_t mode, uint32_t *ret);

/** tree_drop() - forget an inode of tree_new() that never got a name. */
void tree_drop(struct tree *t, uint32_t inode);

/** tree_find() - the name @text in @dir, or 0. */
uint32_t tree_find(const struct tree *t, uint32_t dir, const char *text, size_t len);

/**
 * tree_link() - let @text in @dir lead to @inode; what it led to before loses a name.
 *
 * A directory may have one name only. Return: 0, -ENOMEM, -EFBIG, -ELOOP (TREE_DEPTH_MAX).
 */
int tree_link(struct tree *t, uint32_t dir, const char *text, size_t len, uint32_t inode,
	      uint16_t layer);

/** tree_mkdir() - tree_new() and tree_link() of a directory that belongs to root, 0755. */
int tree_mkdir(struct tree *t, uint32_t dir, const char *text, size_t len, uint16_t layer,
	       uint32_t *ret);

/**
 * tree_hide() - whiteout: remove @text from @dir, but keep what @layer itself brought below it.
 *
 * Return: 0 (also when there is none), -ENOMEM.
 */
int tree_hide(struct tree *t, uint32_t dir, const char *text, size_t len, uint16_t layer);

/** tree_hide_below() - opaque whiteout: the same for everything in @dir. */
int tree_hide_below(struct tree *t, uint32_t dir, uint16_t layer);

/**
 * tree_flatten() - turn the names of @dir into a list in bytewise order.
 *
 * Return: the first one; @right leads to the next. The directory cannot be searched any more.
 */
uint32_t tree_flatten(struct tree *t, uint32_t dir);

/** name_compare() - bytewise, a prefix first. */
int name_compare(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
