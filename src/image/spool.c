/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spool: written once from front to back, then read nearly so.
 */
#include "image/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"

#define SPOOL_WINDOW (64u << 10) /* read at once */

/* Where the file system has no O_TMPFILE: a name, for an instant. */
static int make_named(const char *dir, struct smolvm_error *err)
{
	AUTO_FREE char *path = path_join(dir, ".spool-XXXXXX");
	int fd;

	if (!path)
		return err_nomem(err);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "making a temporary file in %s", dir);
	unlink(path);
	return fd;
}

int spool_init(struct spool *s, const char *dir, struct smolvm_error *err)
{
	*s = (struct spool){ .fd = -1 };
	s->buf = malloc(SPOOL_BUFFER);
	if (!s->buf)
		return err_nomem(err);
	s->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (s->fd < 0)
		s->fd = make_named(dir, err);
	return s->fd < 0 ? s->fd : 0;
}

void spool_fini(struct spool *s)
{
	fd_close(&s->fd);
	free(s->buf);
	s->buf = NULL;
}

static int flush(struct spool *s, struct smolvm_error *err)
{
	int r = fd_pwrite_all(s->fd, s->buf, s->used, (off_t)s->base);

	if (r < 0) {
		errno = -r;
		return err_sys(err, "writing a temporary file");
	}
	s->base += s->used;
	s->used = 0;
	return 0;
}

int spool_add(struct spool *s, const void *data, size_t len, uint64_t *ret_pos,
	      struct smolvm_error *err)
{
	int r;

	if (len > SPOOL_BUFFER - s->used) {
		r = flush(s, err);
		if (r < 0)
			return r;
	}
	memcpy(s->buf + s->used, data, len);
	*ret_pos = s->base + s->used;
	s->used += len;
	return 0;
}

int spool_seal(struct spool *s, struct smolvm_error *err)
{
	return flush(s, err);
}

int spool_read(struct spool *s, uint64_t pos, size_t len, const void **ret,
	       struct smolvm_error *err)
{
	ssize_t n;

	if (pos < s->base || pos + len > s->base + s->used) {
		/* some from before as well: names sort differently than they were stored */
		s->base = pos > SPOOL_WINDOW / 4 ? pos - SPOOL_WINDOW / 4 : 0;
		n = fd_pread_full(s->fd, s->buf, SPOOL_WINDOW, (off_t)s->base);
		s->used = n > 0 ? (size_t)n : 0;
		if (n < 0 || pos + len > s->base + s->used) {
			errno = n < 0 ? (int)-n : EIO;
			return err_sys(err, "reading a temporary file");
		}
	}
	*ret = s->buf + (pos - s->base);
	return 0;
}
