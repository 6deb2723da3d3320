/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths of an archive, inside the tree.
 */
#ifndef IMAGE_WALK_H
#define IMAGE_WALK_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "image/tree.h"

#define WALK_PATH_MAX  4095u /* as long as Linux allows */
#define WALK_LINKS_MAX 40u

/**
 * struct walk - where a path leads.
 * @dir:  the directory that its last component is in.
 * @name: the last component, @len bytes, in the path given; @len is 0 when the path is the root.
 */
struct walk {
	uint32_t dir;
	const char *name;
	size_t len;
};

/**
 * walk_to() - find the directory that @path's last component is in.
 * @make:  layer in which missing directories are made (0755, root's); 0: nothing is made.
 *
 * A path begins at the root, with or without a slash. Links on the way are followed inside the
 * root, as a process confined to it would; the last component never is.
 *
 * Return: 1 with *@ret filled in; 0 when a directory is missing (@make 0 only; @ret->dir is 0
 * then); -EINVAL: "..", a name or path that is too long, something on the way that is no directory,
 * too many links; -EFBIG, -ENOMEM.
 */
int walk_to(struct tree *t, const char *path, uint16_t make, struct walk *ret,
	    struct smolvm_error *err);

#endif
