/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test driver: layers (tar files, bottom first; or directories) become one EROFS file.
 *
 *	mkrootfs [-p] IMAGE LAYER...     -p: no whiteouts (a plain root file system)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"
#include "image/rootfs.h"

struct input {
	int fd;
	char buf[256 << 10];
};

static ssize_t input_read(void *ctx, const void **ret, struct smolvm_error *err)
{
	struct input *in = ctx;
	ssize_t n = read(in->fd, in->buf, sizeof(in->buf));

	*ret = in->buf;
	return n < 0 ? err_sys(err, "read") : n;
}

static int64_t input_skip(void *ctx, int64_t n)
{
	struct input *in = ctx;
	off_t at = lseek(in->fd, 0, SEEK_CUR);
	struct stat st;

	/* not beyond the end: a truncated archive must be seen as one */
	if (at < 0 || fstat(in->fd, &st) < 0 || n > st.st_size - at || n < 4096)
		return 0;
	return lseek(in->fd, n, SEEK_CUR) < 0 ? 0 : n;
}

static int add(struct rootfs *r, const char *path, bool whiteouts, struct smolvm_error *err)
{
	static struct input in;
	const struct tar_source source = { input_read, input_skip, &in };
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	struct tar *t;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, "%s", path);
	if (S_ISDIR(st.st_mode))
		return rootfs_add_tree(r, fd, err);
	in.fd = fd;
	rc = tar_open(&t, &source, err);
	if (rc < 0)
		return rc;
	rc = rootfs_add_layer(r, t, whiteouts, err);
	tar_close(t);
	return rc;
}

int main(int argc, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	bool plain = argc > 1 && !strcmp(argv[1], "-p");
	const char *image = argc > 1 + plain ? argv[1 + plain] : "";
	AUTO_FD fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	struct rootfs *r = NULL;
	uint64_t bytes;
	int i, rc;

	if (fd < 0) {
		fprintf(stderr, "usage: mkrootfs [-p] IMAGE LAYER...\n");
		return 2;
	}
	rc = rootfs_create(&r, fd, "/tmp", NULL, &err);
	for (i = 2 + plain; !rc && i < argc; i++)
		rc = add(r, argv[i], !plain, &err);
	if (!rc)
		rc = rootfs_finish(r, &bytes, &err);
	rootfs_destroy(r);
	if (rc < 0) {
		fprintf(stderr, "mkrootfs: %s\n", err.message);
		unlink(image);
		return 1;
	}
	return 0;
}
