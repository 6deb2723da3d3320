/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images: "python:3.11".
 */
#ifndef IMAGE_NAME_H
#define IMAGE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include <smolvm/error.h>

#define NAME_LEN_MAX 255

/**
 * name_normalize() - the form in which a name is stored and looked up.
 *
 * The registry and the folder that docker and podman add by themselves are taken off
 * ("docker.io/library/", "localhost/"), and ":latest" is added where there is no tag.
 * Errors: -EINVAL: empty, too long, not beginning with a letter or digit, or holding anything but
 * letters, digits and . _ - + / :
 */
int name_normalize(const char *name, char ret[NAME_LEN_MAX + 1], struct smolvm_error *err);

/**
 * struct name_list - names, one a line, each once. All zeroes: empty.
 */
struct name_list {
	char *text;
	size_t len;
	size_t n;
};

#define NAME_LIST_MAX 256

/** name_list_add() - add @name, normalized, unless it is there. 0, -EINVAL, -EFBIG, -ENOMEM. */
int name_list_add(struct name_list *list, const char *name, struct smolvm_error *err);
void name_list_fini(struct name_list *list);

/**
 * name_list_has() - is one of them what a person means by @wanted: the name, or its tag alone?
 */
bool name_list_has(const struct name_list *list, const char *wanted);

#endif
