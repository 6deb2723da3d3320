/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's root file system.
 */
#ifndef AGENT_ROOT_H
#define AGENT_ROOT_H

#include "agent/setup.h"

/**
 * root_mount() - mount the image under a writable layer, make it the root, and mount the kernel's
 * own file systems in it.
 * @ret_rw_fd: the file system that takes the writes (O_PATH), -1 when it is not a disk.
 *
 * With SETUP_READ_ONLY the root still takes writes afterwards, for mount points;
 * root_make_read_only() ends that. Touches no shared folder.
 * Return: 0 or -errno.
 */
int root_mount(const struct setup *s, int *ret_rw_fd, struct smolvm_error *err);

/** root_make_read_only() - Return: 0 or -errno. */
int root_make_read_only(struct smolvm_error *err);

/** root_make_dirs() - make @path and what is missing above it. Return: 0 or -errno. */
int root_make_dirs(const char *path);

#endif
