/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of small files, kept on disk until it is known where in the image they go.
 */
#ifndef IMAGE_SPOOL_H
#define IMAGE_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#define SPOOL_BUFFER (256u << 10)

/**
 * struct spool - a file without a name.
 * @buf:    bytes not yet written, while adding; a window of the file, while reading.
 * @base:   where in the file the buffer begins.
 */
struct spool {
	int fd;
	uint8_t *buf;
	size_t used;
	uint64_t base;
};

/** spool_init() - make the file in @dir. Return: 0, -ENOMEM, or why it cannot be made. */
int spool_init(struct spool *s, const char *dir, struct smolvm_error *err);
void spool_fini(struct spool *s);

/** spool_add() - append at most SPOOL_BUFFER bytes. @ret_pos: for spool_read(). */
int spool_add(struct spool *s, const void *data, size_t len, uint64_t *ret_pos,
	      struct smolvm_error *err);

/** spool_seal() - no more is added. */
int spool_seal(struct spool *s, struct smolvm_error *err);

/** spool_read() - @len bytes at @pos; valid until the next call. */
int spool_read(struct spool *s, uint64_t pos, size_t len, const void **ret,
	       struct smolvm_error *err);

#endif
