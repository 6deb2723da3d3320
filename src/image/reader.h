/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a part of a file, and a stream after it, as the source of a tar archive: hashed,
 * counted and recorded on the way.
 */
#ifndef IMAGE_READER_H
#define IMAGE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include <smolvm/smolvm.h>

#include "image/digest.h"
#include "image/tar.h"

/* What a stream, or a compressed archive of images, may hold. */
#define READER_RECORD_BYTES_MAX (128ull << 30)

/**
 * struct meter - tells the caller of an import how far it is.
 * @options: for its callback; NULL or without one: nobody asks.
 */
struct meter {
	const struct smolvm_import_options *options;
	uint64_t done_bytes, total_bytes, told_bytes;
};

/** meter_add() - @n more bytes were read. Return: 0, or -ECANCELED. */
int meter_add(struct meter *m, uint64_t n, struct smolvm_error *err);

/**
 * struct reader - where reading is. Filled in by reader_init(); these may be set before the first
 * read:
 * @digest:    compute it.
 * @stream_fd: what is read when the part is at its end; -1: nothing.
 * @record_fd: where what comes from @stream_fd is written to, at @record_offset; -1: nowhere.
 * @meter:     may be NULL.
 */
struct reader {
	int fd;
	int64_t offset, left;
	bool hashing;
	int stream_fd;
	int record_fd;
	int64_t record_offset;
	struct meter *meter;
	/* its own */
	struct digest hash;
	uint8_t *block;
};

/** reader_init() - @size bytes at @offset of @fd, which stays the caller's. */
void reader_init(struct reader *r, int fd, int64_t offset, int64_t size);
void reader_fini(struct reader *r);

/** reader_hash() - hash what will be read. Return: 0 or -ENOMEM. */
int reader_hash(struct reader *r, struct smolvm_error *err);

/** reader_source() - the reader as what tar_open() takes. */
struct tar_source reader_source(struct reader *r);

/** reader_drain() - read what is left. Return: 0 or a negative errno. */
int reader_drain(struct reader *r, struct smolvm_error *err);

/** reader_digest() - drain, and give the digest of everything. Return: 0 or a negative errno. */
int reader_digest(struct reader *r, char ret[DIGEST_LEN + 1], struct smolvm_error *err);

/** reader_spool() - a new file in @dir that has no name. Return: the descriptor, or -errno. */
int reader_spool(const char *dir, struct smolvm_error *err);

#endif
