/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a file from front to back in large pieces, leaving blocks of zeroes out.
 */
#ifndef IMAGE_OUT_H
#define IMAGE_OUT_H

#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#define OUT_BLOCK  4096u
#define OUT_BUFFER (1u << 20)

/**
 * struct out
 * @base:    where in the file the buffer begins; a multiple of OUT_BLOCK.
 * @written: bytes that went to the file so far (holes not counted).
 * @max:     the most bytes @written may become.
 *
 * What is passed over must be a hole in the file, or beyond its end.
 */
struct out {
	int fd;
	uint8_t *buf;
	size_t used;
	uint64_t base, written, max;
};

/** out_init() - begin at @base. Return: 0 or -ENOMEM. */
int out_init(struct out *o, int fd, uint64_t base, uint64_t max, struct smolvm_error *err);
void out_fini(struct out *o);

static inline uint64_t out_position(const struct out *o)
{
	return o->base + o->used;
}

/** out_write() - append. Errors: -EFBIG, those of pwrite(). */
int out_write(struct out *o, const void *data, size_t len, struct smolvm_error *err);

/** out_zeroes() - append @len zeroes; far ones cost nothing. */
int out_zeroes(struct out *o, uint64_t len, struct smolvm_error *err);

/** out_pad() - zeroes up to a multiple of @align (at most OUT_BLOCK). */
int out_pad(struct out *o, uint32_t align, struct smolvm_error *err);

/** out_flush() - the whole blocks that are buffered go to the file. */
int out_flush(struct out *o, struct smolvm_error *err);

#endif
