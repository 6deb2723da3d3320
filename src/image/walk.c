/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a path of an archive through the tree.
 *
 * Links are followed in the root's scope: an absolute target begins at the root, ".." at the root
 * stays there, and a target that does not exist is made, which is what unpacking below a chroot
 * does to an archive that was made for "/lib" while the image has lib -> usr/lib.
 */
#include "image/walk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"

/* What is still to be walked: the rest of a link's target, and what followed the link. */
struct pending {
	char text[3 * (WALK_PATH_MAX + 1)];
	char *at;
};

struct component {
	const char *text;
	size_t len;
};

static bool next_component(const char **at, struct component *ret)
{
	do {
		while (**at == '/')
			++*at;
		ret->text = *at;
		while (**at && **at != '/')
			++*at;
		ret->len = (size_t)(*at - ret->text);
	} while (ret->len == 1 && ret->text[0] == '.');
	return ret->len > 0;
}

static bool is_dotdot(const struct component *c)
{
	return c->len == 2 && !memcmp(c->text, "..", 2);
}

/* The path as a whole: no "..", nothing too long. Finds the last component. */
static int check_path(const char *path, struct component *last, struct smolvm_error *err)
{
	struct component c;

	*last = (struct component){ .text = path };
	if (!*path)
		return err_set(err, EINVAL, "an entry with an empty name");
	if (strlen(path) > WALK_PATH_MAX)
		return err_set(err, EINVAL, "the path is longer than %u bytes", WALK_PATH_MAX);
	while (next_component(&path, &c)) {
		if (is_dotdot(&c))
			return err_set(err, EINVAL, "a path with \"..\" in it");
		if (c.len > TREE_NAME_MAX)
			return err_set(err, EINVAL, "the name is longer than %u bytes",
				       TREE_NAME_MAX);
		*last = c;
	}
	return 0;
}

/* Put the target of a link in front of what is pending. */
static int push_link(const struct tree *t, struct pending **p, const struct inode *link,
		     const char **rest, struct smolvm_error *err)
{
	size_t rest_len = strlen(*rest), len = link->link.len;
	char *at;

	if (!*p) {
		*p = malloc(sizeof(**p));
		if (!*p)
			return err_nomem(err);
		(*p)->at = NULL;
	}
	if (len + 1 + rest_len + 1 > sizeof((*p)->text))
		return err_set(err, EINVAL, "links on the way make the path too long");
	/* the rest may lie in the same buffer */
	at = (*p)->text + sizeof((*p)->text) - rest_len - 1;
	memmove(at, *rest, rest_len + 1);
	*--at = '/';
	at -= len;
	memcpy(at, arena_get(&t->arena, link->link.target), len);
	*rest = (*p)->at = at;
	return 0;
}

struct state {
	struct tree *t;
	struct pending *pending;
	const char *rest;
	uint32_t dir;
	unsigned int links;
	uint16_t make;
};

/* One component further. Return: 1, 0 (missing), negative. */
static int step(struct state *s, const struct component *c, struct smolvm_error *err)
{
	const struct inode *i;
	uint32_t name;
	int r;

	if (is_dotdot(c)) { /* can only be a link's */
		s->dir = tree_inode(s->t, s->dir)->dir.parent;
		return 1;
	}
	if (c->len > TREE_NAME_MAX)
		return err_set(err, EINVAL, "a link on the way has a target with too long a name");
	name = tree_find(s->t, s->dir, c->text, c->len);
	if (!name && !s->make)
		return 0;
	if (!name) {
		r = tree_mkdir(s->t, s->dir, c->text, c->len, s->make, &s->dir);
		if (r == -ELOOP || r == -EFBIG)
			return err_set(err, r == -ELOOP ? EINVAL : EFBIG,
				       "too many directories, or too deep in each other");
		return r < 0 ? err_nomem(err) : 1;
	}
	i = tree_inode(s->t, tree_name(s->t, name)->inode);
	if (S_ISDIR(i->mode)) {
		s->dir = tree_name(s->t, name)->inode;
		return 1;
	}
	if (!S_ISLNK(i->mode))
		return err_set(err, EINVAL, "\"%.*s\" on the way is not a directory", (int)c->len,
			       c->text);
	if (++s->links > WALK_LINKS_MAX)
		return err_set(err, EINVAL, "more than %u links on the way", WALK_LINKS_MAX);
	r = push_link(s->t, &s->pending, i, &s->rest, err);
	if (r < 0)
		return r;
	if (*s->rest == '/')
		s->dir = TREE_ROOT;
	return 1;
}

int walk_to(struct tree *t, const char *path, uint16_t make, struct walk *ret,
	    struct smolvm_error *err)
{
	struct state s = { .t = t, .rest = path, .dir = TREE_ROOT, .make = make };
	struct component last, c;
	char parent[WALK_PATH_MAX + 1];
	int r = check_path(path, &last, err);

	if (r < 0)
		return r;
	memcpy(parent, path, (size_t)(last.text - path));
	parent[last.text - path] = '\0';
	s.rest = parent;
	r = 1;
	while (r > 0 && next_component(&s.rest, &c))
		r = step(&s, &c, err);
	free(s.pending);
	if (r >= 0)
		*ret = (struct walk){ r ? s.dir : 0, last.text, last.len };
	return r;
}
