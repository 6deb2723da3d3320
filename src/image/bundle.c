/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an OCI layout or a "docker save" archive, found by their names.
 *
 * The headers of an uncompressed archive are read once, and its files are read where they are. The
 * files of a compressed one are written to a temporary file one after the other: which of them are
 * needed, and in what order, is known only after the last one.
 */
#include "image/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

#define TAR_BLOCK 512

struct entry {
	char *path;
	char *link; /* where it leads, from the top of the archive; NULL: a file */
	int64_t offset, size;
};

struct bundle {
	int dir_fd;  /* -1: an archive */
	int file_fd; /* of which @entries are parts */
	bool owned;
	struct entry *entries;
	size_t n;
};

const char *bundle_trim(const char *path)
{
	for (;;) {
		if (*path == '/')
			path++;
		else if (path[0] == '.' && path[1] == '/')
			path += 2;
		else
			return path;
	}
}

bool bundle_is_plain_tar(const void *head, size_t len)
{
	const unsigned char *p = head;
	unsigned long want = 0, sum = 0;
	size_t i = 148;

	if (len < TAR_BLOCK)
		return false;
	while (i < 156 && p[i] == ' ')
		i++;
	if (i == 156 || p[i] < '0' || p[i] > '7')
		return false;
	for (; i < 156 && p[i] >= '0' && p[i] <= '7'; i++)
		want = want * 8 + (p[i] - '0');
	for (i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : p[i];
	return sum == want;
}

int bundle_open_dir(struct bundle **ret, int dir_fd, struct smolvm_error *err)
{
	struct bundle *b = calloc(1, sizeof(*b));

	if (!b)
		return err_nomem(err);
	b->dir_fd = dir_fd;
	b->file_fd = -1;
	*ret = b;
	return 0;
}

void bundle_close(struct bundle *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++) {
		free(b->entries[i].path);
		free(b->entries[i].link);
	}
	free(b->entries);
	if (b->owned)
		close(b->file_fd);
	free(b);
}

/* "a/b/layer.tar" and "../c/layer.tar" are "a/c/layer.tar"; NULL where it leaves the archive. */
static char *resolve(const char *from, const char *target)
{
	char path[2 * BUNDLE_PATH_MAX + 2];
	const char *slash = strrchr(from, '/');
	size_t len = *target == '/' || !slash ? 0 : (size_t)(slash - from);

	if (strlen(from) > BUNDLE_PATH_MAX || strlen(target) > BUNDLE_PATH_MAX)
		return NULL;
	memcpy(path, from, len);
	while (*target) {
		size_t n = strcspn(target, "/");

		if (n == 2 && memcmp(target, "..", 2) == 0) {
			if (len == 0)
				return NULL;
			while (len > 0 && path[--len] != '/')
				;
		} else if (n > 0 && !(n == 1 && *target == '.')) {
			if (len > 0)
				path[len++] = '/';
			memcpy(path + len, target, n);
			len += n;
		}
		target += n + (target[n] == '/');
	}
	return strndup(path, len);
}

static int add_entry(struct bundle *b, const struct tar_entry *e, int64_t offset,
		     struct smolvm_error *err)
{
	const char *path = bundle_trim(e->path);
	const char *target = e->hardlink ? e->hardlink : e->symlink;
	struct entry *entry;

	if (strlen(path) > BUNDLE_PATH_MAX)
		return 0; /* no name that an image refers to */
	if (b->n >= BUNDLE_ENTRIES_MAX)
		return err_set(err, EFBIG, "an image archive with more than %d files",
			       BUNDLE_ENTRIES_MAX);
	if ((b->n & (b->n - 1)) == 0) {
		struct entry *more = reallocarray(b->entries, b->n ? b->n * 2 : 1, sizeof(*more));

		if (!more)
			return err_nomem(err);
		b->entries = more;
	}
	entry = &b->entries[b->n++];
	*entry = (struct entry){ .offset = offset, .size = e->size };
	entry->path = strdup(path);
	if (target)
		entry->link = resolve(e->hardlink ? "" : path, target);
	if (!entry->path)
		return err_nomem(err);
	if (target && !entry->link)
		return err_set(err, EINVAL, "the link %s leads out of the archive", path);
	return 0;
}

/* Writes the data of @e to the spool at *@at. */
static int spool_entry(struct bundle *b, struct tar *t, const struct tar_entry *e, int64_t *at,
		       struct smolvm_error *err)
{
	int64_t start = *at, offset;
	const void *data;
	ssize_t n;
	int rc;

	if (e->size < 0 || (uint64_t)(start + e->size) > READER_RECORD_BYTES_MAX ||
	    (uint64_t)e->size > READER_RECORD_BYTES_MAX)
		return err_set(err, EFBIG, "more than %llu GiB in it",
			       READER_RECORD_BYTES_MAX >> 30);
	while ((n = tar_data(t, &data, &offset, err)) > 0) {
		if (offset < 0 || offset > e->size || n > e->size - offset)
			return err_set(err, EINVAL, "%s is longer than its header says", e->path);
		rc = fd_pwrite_all(b->file_fd, data, (size_t)n, start + offset);
		if (rc < 0) {
			errno = -rc;
			return err_sys(err, "cannot keep %s in the state folder", e->path);
		}
	}
	*at = start + e->size;
	return n < 0 ? (int)n : add_entry(b, e, start, err);
}

static int read_headers(struct bundle *b, struct tar *t, int64_t size, struct smolvm_error *err)
{
	struct tar_entry e;
	int64_t at = 0;
	int rc;

	while ((rc = tar_next(t, &e, err)) == 1) {
		if (!e.hardlink && !S_ISREG(e.mode) && !S_ISLNK(e.mode))
			continue;
		if (e.hardlink || !S_ISREG(e.mode))
			rc = add_entry(b, &e, -1, err);
		else if (b->owned)
			rc = spool_entry(b, t, &e, &at, err);
		else if (e.offset < 0)
			return -EAGAIN;
		else if (e.offset > size || e.size > size - e.offset)
			rc = err_set(err, EINVAL, "it is truncated: %s is not complete", e.path);
		else
			rc = add_entry(b, &e, e.offset, err);
		if (rc < 0)
			return rc;
	}
	if (rc == 0 && b->owned && ftruncate(b->file_fd, at) < 0)
		return err_sys(err, "cannot keep what was read in the state folder");
	return rc;
}

/* -EAGAIN: only with @spool, since the data of a file is not in one piece. */
static int open_archive(struct bundle *b, int fd, int64_t size, bool spool, const char *spool_dir,
			struct meter *meter, struct smolvm_error *err)
{
	struct tar_source source;
	struct reader reader;
	struct tar *t = NULL;
	int rc;

	b->dir_fd = -1;
	b->file_fd = fd;
	if (spool) {
		b->file_fd = reader_spool(spool_dir, err);
		if (b->file_fd < 0)
			return b->file_fd;
		b->owned = true;
	}
	reader_init(&reader, fd, 0, size);
	reader.meter = spool ? meter : NULL;
	source = reader_source(&reader);
	rc = tar_open(&t, &source, err);
	if (rc == 0)
		rc = read_headers(b, t, size, err);
	tar_close(t);
	reader_fini(&reader);
	return rc;
}

int bundle_open_archive(struct bundle **ret, int fd, int64_t size, const char *spool_dir,
			struct meter *meter, struct smolvm_error *err)
{
	char head[TAR_BLOCK];
	ssize_t n = fd_pread_full(fd, head, sizeof(head), 0);
	bool spool = n < 0 || !bundle_is_plain_tar(head, (size_t)n);

	for (;;) {
		struct bundle *b = calloc(1, sizeof(*b));
		int rc = b ? open_archive(b, fd, size, spool, spool_dir, meter, err)
			   : err_nomem(err);

		if (rc == 0) {
			*ret = b;
			return 0;
		}
		bundle_close(b);
		if (rc != -EAGAIN || spool)
			return rc;
		spool = true;
	}
}

static int find_in_dir(struct bundle *b, const char *path, struct bundle_file *ret,
		       struct smolvm_error *err)
{
	/* Not to be kept waiting by a fifo. */
	AUTO_FD fd = openat(b->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is not a file", path);
	*ret = (struct bundle_file){ .fd = fd_take(&fd), .owned = true, .size = st.st_size };
	return 1;
}

/* The last of that name counts, as when an archive is unpacked. */
static const struct entry *lookup(const struct bundle *b, const char *path)
{
	for (size_t i = b->n; i > 0; i--)
		if (strcmp(b->entries[i - 1].path, path) == 0)
			return &b->entries[i - 1];
	return NULL;
}

int bundle_find(struct bundle *b, const char *path, struct bundle_file *ret,
		struct smolvm_error *err)
{
	const struct entry *e;

	if (b->dir_fd >= 0)
		return find_in_dir(b, path, ret, err);
	e = lookup(b, path);
	for (int i = 0; e && e->link; i++) {
		if (i == BUNDLE_LINKS_MAX)
			return err_set(err, EINVAL, "%s: too many links", path);
		e = lookup(b, e->link);
	}
	if (!e)
		return 0;
	*ret = (struct bundle_file){ .fd = b->file_fd, .offset = e->offset, .size = e->size };
	return 1;
}

void bundle_file_close(struct bundle_file *f)
{
	if (f->owned)
		close(f->fd);
	f->owned = false;
}

static int read_all(const struct bundle_file *f, const char *path, size_t max, char **ret,
		    size_t *ret_len, struct smolvm_error *err)
{
	AUTO_FREE char *data = NULL;
	ssize_t n;

	if ((uint64_t)f->size > max)
		return err_set(err, EFBIG, "%s has %lld bytes, more than the %zu that smolvm "
			       "accepts", path, (long long)f->size, max);
	data = malloc((size_t)f->size + 1);
	if (!data)
		return err_nomem(err);
	n = fd_pread_full(f->fd, data, (size_t)f->size, f->offset);
	if (n < 0) {
		errno = (int)-n;
		return err_sys(err, "cannot read %s", path);
	}
	if (n < f->size)
		return err_set(err, EINVAL, "%s is truncated", path);
	data[n] = '\0';
	*ret = ptr_take(data);
	*ret_len = (size_t)n;
	return 0;
}

int bundle_read(struct bundle *b, const char *path, size_t max, char **ret, size_t *ret_len,
		struct smolvm_error *err)
{
	struct bundle_file f;
	int rc = bundle_find(b, path, &f, err);

	if (rc == 0)
		return err_set(err, ENOENT, "there is no %s in it", path);
	if (rc < 0)
		return rc;
	rc = read_all(&f, path, max, ret, ret_len, err);
	bundle_file_close(&f);
	return rc;
}
