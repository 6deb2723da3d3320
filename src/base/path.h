/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths and folders.
 */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stdbool.h>

#include <smolvm/error.h>

/** path_join() - "@dir/@name" as a new string, the caller's to free(); NULL without memory. */
char *path_join(const char *dir, const char *name);

/** path_make_dirs() - make @path and what is missing above it. Return: 0 or -errno. */
int path_make_dirs(const char *path, unsigned int mode);

/**
 * path_of_program() - where a file that belongs to this program is.
 *
 * Looked for beside the running executable (a build folder), then as ../lib/smolvm/@name and
 * ../lib/<multiarch>/smolvm/@name from it (an installation).
 * Return: a new string, the caller's to free(), or NULL with errno (ENOENT).
 */
char *path_of_program(const char *name);

/** path_find_tool() - @name in $PATH (and /usr/sbin, /sbin). Return: new string or NULL. */
char *path_find_tool(const char *name);

/** path_remove_tree() - remove a folder and everything in it, not through links. 0 or -errno. */
int path_remove_tree(const char *path);

#endif
