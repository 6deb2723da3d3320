/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that people take for images: what to say about them.
 */
#ifndef IMAGE_SNIFF_H
#define IMAGE_SNIFF_H

#include <stdbool.h>
#include <stddef.h>

#define SNIFF_BYTES (40u << 10) /* enough for what is recognised furthest into a file */

/** sniff_is_compressed() - could it be a compressed archive? */
bool sniff_is_compressed(const void *head, size_t len);

/**
 * sniff_name() - what a file is that is no archive of ours, by its first @len bytes.
 *
 * Return: a phrase that follows "it is ": what it is and what to do; a static string, never NULL.
 */
const char *sniff_name(const void *head, size_t len);

#endif
