/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a part of a file, and a stream after it, as the source of a tar archive.
 */
#include "image/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

#define BLOCK_BYTES (256 << 10)
#define TELL_BYTES  (1u << 20)

int meter_add(struct meter *m, uint64_t n, struct smolvm_error *err)
{
	const struct smolvm_import_options *o = m ? m->options : NULL;

	if (!o || !o->progress)
		return 0;
	m->done_bytes += n;
	if (m->told_bytes && m->done_bytes - m->told_bytes < TELL_BYTES &&
	    m->done_bytes != m->total_bytes)
		return 0;
	m->told_bytes = m->done_bytes;
	if (o->progress(o->progress_ctx, m->done_bytes, m->total_bytes))
		return err_set(err, ECANCELED, "the import was abandoned");
	return 0;
}

void reader_init(struct reader *r, int fd, int64_t offset, int64_t size)
{
	*r = (struct reader){ .fd = fd, .offset = offset, .left = size, .stream_fd = -1,
			      .record_fd = -1 };
}

void reader_fini(struct reader *r)
{
	digest_fini(&r->hash);
	free(r->block);
	r->block = NULL;
}

int reader_hash(struct reader *r, struct smolvm_error *err)
{
	r->hashing = true;
	return digest_init(&r->hash, err);
}

static ssize_t read_part(struct reader *r, struct smolvm_error *err)
{
	size_t want = r->left < BLOCK_BYTES ? (size_t)r->left : BLOCK_BYTES;
	ssize_t n = fd_pread_full(r->fd, r->block, want, r->offset);

	if (n < 0) {
		errno = (int)-n;
		return err_sys(err, "cannot read");
	}
	if (n == 0)
		return err_set(err, EINVAL, "it is truncated");
	r->offset += n;
	r->left -= n;
	return n;
}

static ssize_t read_stream(struct reader *r, struct smolvm_error *err)
{
	ssize_t n;
	int rc;

	do
		n = read(r->stream_fd, r->block, BLOCK_BYTES);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(err, "cannot read");
	if (r->record_fd < 0 || n == 0)
		return n;
	if ((uint64_t)r->record_offset + (uint64_t)n > READER_RECORD_BYTES_MAX)
		return err_set(err, EFBIG, "more than %llu GiB",
			       READER_RECORD_BYTES_MAX >> 30);
	rc = fd_pwrite_all(r->record_fd, r->block, (size_t)n, r->record_offset);
	if (rc < 0) {
		errno = -rc;
		return err_sys(err, "cannot keep what was read in the state folder");
	}
	r->record_offset += n;
	return n;
}

static ssize_t read_block(void *ctx, const void **ret_block, struct smolvm_error *err)
{
	struct reader *r = ctx;
	ssize_t n = 0;
	int rc;

	if (!r->block && !(r->block = malloc(BLOCK_BYTES)))
		return err_nomem(err);
	if (r->left > 0)
		n = read_part(r, err);
	else if (r->stream_fd >= 0)
		n = read_stream(r, err);
	if (n <= 0)
		return n;
	if (r->hashing)
		digest_update(&r->hash, r->block, (size_t)n);
	rc = meter_add(r->meter, (uint64_t)n, err);
	*ret_block = r->block;
	return rc < 0 ? rc : n;
}

static int64_t skip_block(void *ctx, int64_t n)
{
	struct reader *r = ctx;

	if (r->hashing || n <= 0)
		return 0;
	if (n > r->left)
		n = r->left;
	r->offset += n;
	r->left -= n;
	return n;
}

struct tar_source reader_source(struct reader *r)
{
	return (struct tar_source){ .read = read_block, .skip = skip_block, .ctx = r };
}

int reader_drain(struct reader *r, struct smolvm_error *err)
{
	const void *block;
	ssize_t n;

	do
		n = read_block(r, &block, err);
	while (n > 0);
	return (int)n;
}

int reader_digest(struct reader *r, char ret[DIGEST_LEN + 1], struct smolvm_error *err)
{
	int rc = reader_drain(r, err);

	if (rc == 0)
		digest_final(&r->hash, ret);
	return rc;
}

int reader_spool(const char *dir, struct smolvm_error *err)
{
	AUTO_FREE char *path = NULL;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (asprintf(&path, "%s/spool-XXXXXX", dir) < 0) {
		path = NULL;
		return err_nomem(err);
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "cannot make a file in %s", dir);
	unlink(path);
	return fd;
}
