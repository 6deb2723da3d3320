/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a source of images is.
 *
 * A file is looked into until an entry tells: names that only archives of images have, or the
 * folders of a root file system, which it is too when nothing tells. A stream is kept in an unnamed
 * file as far as it had to be read for that, and read from there again.
 */
#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/bundle.h"
#include "image/sniff.h"

#define HEX           "0123456789abcdef"
#define UNDECIDED_MAX 1000 /* entries that say nothing, until it is a root file system */

/* What a root file system has at least one of. */
static const char *const root_names[] = {
	"bin", "usr", "sbin", "etc", "lib", "lib64", "init", "proc", "sys", "dev",
};

static const char *const archive_files[] = {
	"manifest.json", "index.json", "oci-layout", "repositories",
};

bool source_exists(const char *what)
{
	const char *hash = strrchr(what, '#');
	AUTO_FREE char *path = NULL;
	struct stat st;

	if (!*what)
		return false;
	/* What is there and cannot be reached is for source_open() to say. */
	if (stat(what, &st) == 0 || (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG))
		return true;
	if (!hash || hash == what)
		return false;
	path = strndup(what, (size_t)(hash - what));
	return path && stat(path, &st) == 0;
}

/* "PATH#TAG" names a part of PATH, unless there is a file of the whole name. */
static int split_name(struct source *s, const char *what)
{
	const char *hash = strrchr(what, '#');
	struct stat st;

	if (hash && hash != what && (stat(what, &st) < 0 || strcmp(what, "-") == 0)) {
		s->name = strndup(what, (size_t)(hash - what));
		s->tag = strdup(hash + 1);
		return s->name && s->tag ? 0 : -ENOMEM;
	}
	s->name = strdup(what);
	return s->name ? 0 : -ENOMEM;
}

static int open_dir(struct source *s, struct smolvm_error *err)
{
	struct stat st;

	s->kind = SOURCE_LAYOUT_DIR;
	if (fstatat(s->fd, "oci-layout", &st, 0) == 0 && S_ISREG(st.st_mode))
		return 0;
	s->kind = SOURCE_TREE;
	for (size_t i = 0; i < sizeof(root_names) / sizeof(*root_names); i++)
		if (fstatat(s->fd, root_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			return 0;
	if (fstatat(s->fd, "Dockerfile", &st, 0) == 0)
		return err_set(err, EINVAL, "the folder %s holds a Dockerfile and no image: build "
			       "the image first (docker build, podman build or buildah), save it, "
			       "and give smolvm the archive", s->name);
	return err_set(err, EINVAL, "the folder %s is neither an OCI layout (it has no file "
		       "oci-layout) nor a root file system (it has no bin, usr, etc, ...)",
		       s->name);
}

static int open_path(struct source *s, struct smolvm_error *err)
{
	struct stat st;

	s->fd = open(s->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return err_sys(err, "cannot open %s", s->name);
	s->owned = true;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, EINVAL, "%s is a device or socket, not an image", s->name);
	if (S_ISFIFO(st.st_mode))
		return err_set(err, EINVAL, "%s is a pipe: read it as standard input (the image "
			       "\"-\")", s->name);
	s->real = realpath(s->name, NULL);
	if (!s->real)
		return err_sys(err, "cannot open %s", s->name);
	if (S_ISDIR(st.st_mode))
		return open_dir(s, err);
	s->kind = SOURCE_FILE;
	s->size = st.st_size;
	snprintf(s->state, sizeof(s->state), "%llu:%llu:%lld:%lld.%09ld:%lld.%09ld",
		 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
		 (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
		 (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	return 0;
}

static int open_stdin(struct source *s, int fd, const char *spool_dir, struct smolvm_error *err)
{
	struct stat st;

	free(s->name);
	s->name = strdup("standard input");
	if (!s->name)
		return err_nomem(err);
	if (fstat(fd, &st) < 0)
		return err_sys(err, "standard input");
	if (isatty(fd))
		return err_set(err, EINVAL, "standard input is a terminal, not an image: pipe an "
			       "archive into it");
	s->kind = SOURCE_FILE;
	if (S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0) {
		s->fd = fd;
		s->size = st.st_size;
		return 0;
	}
	s->fd = reader_spool(spool_dir, err);
	s->owned = s->fd >= 0;
	s->stream_fd = fd;
	return s->owned ? 0 : s->fd;
}

int source_open(struct source *ret, const char *what, int stdin_fd, const char *spool_dir,
		struct smolvm_error *err)
{
	struct source s = { .fd = -1, .stream_fd = -1 };
	int rc = split_name(&s, what);

	if (rc < 0)
		err_nomem(err);
	else if (strcmp(s.name, "-") == 0)
		rc = open_stdin(&s, stdin_fd, spool_dir, err);
	else
		rc = open_path(&s, err);
	if (rc < 0)
		source_close(&s);
	else
		*ret = s;
	return rc;
}

void source_close(struct source *s)
{
	free(s->name);
	free(s->tag);
	free(s->real);
	if (s->owned)
		close(s->fd);
	*s = (struct source){ .fd = -1, .stream_fd = -1 };
}

void source_reader(const struct source *s, struct reader *ret, struct meter *meter)
{
	reader_init(ret, s->fd, 0, s->size);
	ret->stream_fd = s->stream_fd;
	ret->meter = meter;
}

/* A reader that keeps what it takes from the stream; what it has kept is then ours. */
static void keeping_reader(const struct source *s, struct reader *r, struct meter *meter)
{
	source_reader(s, r, meter);
	r->record_fd = s->stream_fd >= 0 ? s->fd : -1;
	r->record_offset = s->size;
}

static void end_keeping(struct source *s, struct reader *r)
{
	if (r->record_fd >= 0)
		s->size = r->record_offset;
	reader_fini(r);
}

int source_keep(struct source *s, struct meter *meter, struct smolvm_error *err)
{
	struct reader r;
	int rc;

	if (s->stream_fd < 0)
		return 0;
	keeping_reader(s, &r, meter);
	r.left = 0; /* that is here already */
	rc = reader_drain(&r, err);
	end_keeping(s, &r);
	if (rc == 0)
		s->stream_fd = -1;
	return rc;
}

/* "<64 hexadecimal digits>", and then nothing or "/..." or ".json" or ".tar" */
static bool is_hex_name(const char *path)
{
	const char *rest = path + strspn(path, HEX);

	return rest - path == 64 && (!*rest || *rest == '/' || strcmp(rest, ".json") == 0 ||
				     strcmp(rest, ".tar") == 0);
}

/* Which of the two would have this entry? SOURCE_FILE: either. */
static enum source_kind kind_by_path(const char *path)
{
	size_t first = strcspn(path, "/");

	for (size_t i = 0; i < sizeof(archive_files) / sizeof(*archive_files); i++)
		if (strcmp(path, archive_files[i]) == 0)
			return SOURCE_ARCHIVE;
	if (strncmp(path, "blobs/sha256/", strlen("blobs/sha256/")) == 0 || is_hex_name(path))
		return SOURCE_ARCHIVE;
	for (size_t i = 0; i < sizeof(root_names) / sizeof(*root_names); i++)
		if (first == strlen(root_names[i]) && memcmp(path, root_names[i], first) == 0)
			return SOURCE_TAR;
	return SOURCE_FILE;
}

static int look_into_tar(struct source *s, struct reader *r, struct smolvm_error *err)
{
	struct tar_source source = reader_source(r);
	struct tar_entry e;
	unsigned int n = 0;
	struct tar *t;
	int rc = tar_open(&t, &source, err);

	if (rc < 0)
		return rc;
	while (s->kind == SOURCE_FILE && n < UNDECIDED_MAX && (rc = tar_next(t, &e, err)) == 1) {
		s->kind = kind_by_path(bundle_trim(e.path));
		n++;
	}
	tar_close(t);
	if (rc < 0)
		return rc;
	if (n == 0)
		return err_set(err, EINVAL, "it is an archive without anything in it");
	/* A root file system can also be one program, of any name. */
	if (s->kind == SOURCE_FILE)
		s->kind = SOURCE_TAR;
	return 0;
}

/* The first bytes, from the stream where need be. Return: how many, or a negative errno. */
static ssize_t read_head(struct source *s, char *head, struct smolvm_error *err)
{
	ssize_t n;

	if (s->stream_fd >= 0) {
		n = fd_read_full(s->stream_fd, head, SNIFF_BYTES);
		if (n > 0) {
			int rc = fd_pwrite_all(s->fd, head, (size_t)n, 0);

			n = rc < 0 ? rc : n;
			s->size = n;
		}
	} else {
		n = fd_pread_full(s->fd, head, SNIFF_BYTES, 0);
	}
	return n < 0 ? err_set(err, (int)-n, "cannot read it: %s", strerror((int)-n)) : n;
}

int source_look(struct source *s, struct meter *meter, struct smolvm_error *err)
{
	AUTO_FREE char *head = NULL;
	struct reader r;
	ssize_t n;
	int rc;

	if (s->kind != SOURCE_FILE)
		return 0;
	head = malloc(SNIFF_BYTES);
	if (!head)
		return err_nomem(err);
	n = read_head(s, head, err);
	if (n < 0)
		return (int)n;
	if (!bundle_is_plain_tar(head, (size_t)n) && !sniff_is_compressed(head, (size_t)n))
		return err_set(err, EINVAL, "it is %s", sniff_name(head, (size_t)n));
	keeping_reader(s, &r, s->stream_fd >= 0 ? meter : NULL);
	rc = look_into_tar(s, &r, err);
	end_keeping(s, &r);
	return rc;
}
