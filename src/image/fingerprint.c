/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling whether a directory has changed without reading its files.
 */
#include "image/fingerprint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_real(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static void add_stat(struct digest *d, const char *name, const struct stat *st)
{
	const uint64_t facts[] = {
		st->st_mode, st->st_uid, st->st_gid, S_ISDIR(st->st_mode) ? 0 : st->st_size,
		st->st_dev, st->st_ino, st->st_rdev,
		(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec,
		(uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec,
	};

	digest_update(d, name, strlen(name) + 1);
	digest_update(d, facts, sizeof(facts));
}

static int add_dir(struct digest *d, int fd, int depth, struct smolvm_error *err);

static int add_child(struct digest *d, int dir_fd, const char *name, int depth,
		     struct smolvm_error *err)
{
	AUTO_FD fd = -1;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_sys(err, "cannot look at %s", name);
	add_stat(d, name, &st);
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (depth >= FINGERPRINT_DEPTH_MAX)
		return err_set(err, EFBIG, "folders in folders deeper than %d at %s",
			       FINGERPRINT_DEPTH_MAX, name);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "cannot open the folder %s", name);
	return add_dir(d, fd, depth + 1, err);
}

static int add_dir(struct digest *d, int fd, int depth, struct smolvm_error *err)
{
	struct dirent **list = NULL;
	int n = scandirat(fd, ".", &list, is_real, by_name);
	int rc = 0;

	if (n < 0)
		return err_sys(err, "cannot read a folder");
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = add_child(d, fd, list[i]->d_name, depth, err);
		free(list[i]);
	}
	free(list);
	digest_update(d, "/", 2); /* the folder's end */
	return rc;
}

int fingerprint_tree(int dir_fd, char ret[DIGEST_LEN + 1], struct smolvm_error *err)
{
	/* Owners are taken over differently for root. */
	const uint32_t uid = geteuid();
	struct digest d;
	struct stat st;
	int rc;

	if (fstat(dir_fd, &st) < 0)
		return err_sys(err, "cannot look at it");
	rc = digest_init(&d, err);
	if (rc < 0)
		return rc;
	digest_update(&d, &uid, sizeof(uid));
	add_stat(&d, "", &st);
	rc = add_dir(&d, dir_fd, 0, err);
	if (rc == 0)
		digest_final(&d, ret);
	digest_fini(&d);
	return rc;
}
