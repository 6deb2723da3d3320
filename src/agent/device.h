/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device a path is on, without asking a file system that nobody serves yet.
 */
#ifndef AGENT_DEVICE_H
#define AGENT_DEVICE_H

/** device_of() - from what the kernel knows by itself. Return: 0 or -errno. */
int device_of(const char *path, unsigned int *ret_major, unsigned int *ret_minor);

#endif
