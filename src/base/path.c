/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths and folders.
 */
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define TREE_DEPTH_MAX 64

char *path_join(const char *dir, const char *name)
{
	char *s;

	return asprintf(&s, "%s/%s", dir, name) < 0 ? NULL : s;
}

int path_make_dirs(const char *path, unsigned int mode)
{
	AUTO_FREE char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *copy && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0) {
		int e = errno;

		if (stat(copy, &st) == 0)
			return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
		return -e;
	}
	return 0;
}

char *path_of_program(const char *name)
{
	static const char *const places[] = {
		"", "../lib/smolvm/", "../lib/x86_64-linux-gnu/smolvm/",
		"../lib/aarch64-linux-gnu/smolvm/", "../lib64/smolvm/", "../libexec/smolvm/",
	};
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n < 0)
		return NULL;
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		char *s;

		if (asprintf(&s, "%s/%s%s", exe, places[i], name) < 0)
			return NULL;
		if (access(s, R_OK) == 0)
			return s;
		free(s);
	}
	errno = ENOENT;
	return NULL;
}

char *path_find_tool(const char *name)
{
	const char *path = getenv("PATH");
	AUTO_FREE char *all = NULL;
	char *save = NULL;

	if (asprintf(&all, "%s:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin") < 0) {
		all = NULL;
		return NULL;
	}
	for (char *dir = strtok_r(all, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		char *s = path_join(dir, name);
		struct stat st;

		if (s && stat(s, &st) == 0 && S_ISREG(st.st_mode) && access(s, X_OK) == 0)
			return s;
		free(s);
	}
	return NULL;
}

static int remove_children(int dir_fd, int depth);

static int remove_child(int dir_fd, const char *name, int depth)
{
	int fd, rc;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	rc = -errno;
	if (depth >= TREE_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) /* no folder: what unlink() said is why it stays */
		return errno == ENOTDIR || errno == ELOOP ? rc : -errno;
	rc = remove_children(fd, depth + 1);
	if (rc == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

static int remove_children(int dir_fd, int depth)
{
	DIR *d = fdopendir(dir_fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		close(dir_fd);
		return -errno;
	}
	while (rc == 0 && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			rc = remove_child(dirfd(d), e->d_name, depth);
	closedir(d);
	return rc;
}

int path_remove_tree(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ENOTDIR && unlink(path) == 0 ? 0 : -errno;
	rc = remove_children(fd, 0);
	if (rc == 0 && rmdir(path) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}
