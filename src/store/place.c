/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the state folder and the run folder are.
 */
#include "store/place.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"

/* The XDG specification: a relative path in one of its variables is to be ignored. */
static const char *absolute_env(const char *name)
{
	const char *value = getenv(name);

	return value && *value == '/' ? value : NULL;
}

static char *home_from_environment(bool *ret_chosen, struct smolvm_error *err)
{
	const char *data = absolute_env("XDG_DATA_HOME");
	const char *home = absolute_env("HOME");
	const char *named = getenv("SMOLVM_HOME");
	char *path = NULL;

	*ret_chosen = named && *named;
	if (*ret_chosen)
		path = strdup(named);
	else if (data)
		path = path_join(data, "smolvm");
	else if (home)
		path = path_join(home, ".local/share/smolvm");
	else
		err_set(err, EINVAL, "there is no place for images and machines: none of "
			"SMOLVM_HOME, XDG_DATA_HOME and HOME is set to an absolute path");
	if (!path && (*ret_chosen || data || home))
		err_nomem(err);
	return path;
}

int place_home(const char *home, char **ret, bool *ret_chosen, struct smolvm_error *err)
{
	AUTO_FREE char *path = NULL;
	struct stat st;
	char *real;
	int rc;

	if (home && *home) {
		path = strdup(home);
		*ret_chosen = true;
		if (!path)
			return err_nomem(err);
	} else {
		path = home_from_environment(ret_chosen, err);
		if (!path)
			return err && err->code == EINVAL ? -EINVAL : -ENOMEM;
	}
	rc = stat(path, &st) == 0 ? S_ISDIR(st.st_mode) ? 0 : -ENOTDIR
				  : path_make_dirs(path, 0700);
	if (rc < 0)
		return err_set(err, -rc, "cannot make the state folder %s: %s (SMOLVM_HOME names "
			       "another)", path, strerror(-rc));
	real = realpath(path, NULL);
	if (!real)
		return err_sys(err, "state folder %s", path);
	*ret = real;
	return 0;
}

/* Ours alone and writable? A folder in /tmp could have been put there by somebody else. */
static int check_private_dir(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	return access(path, W_OK | X_OK) < 0 ? -errno : 0;
}

static bool usable(const char *path)
{
	return strlen(path) <= PLACE_RUN_DIR_MAX && check_private_dir(path) == 0;
}

/* FNV-1a: state folders are told apart, nothing is protected by it. */
static uint32_t short_hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

/* Writes the candidate of that number to @path. Return: false where there is none. */
static bool candidate(int i, const char *home, bool chosen, char **path)
{
	const char *runtime = absolute_env("XDG_RUNTIME_DIR");
	int n = -1;

	switch (i) {
	case 0:
		n = chosen || !runtime ? asprintf(path, "%s/run", home)
				       : asprintf(path, "%s/smolvm", runtime);
		break;
	case 1:
		n = asprintf(path, "%s/smolvm-%08x", runtime ? runtime : "", short_hash(home));
		if (n >= 0 && !runtime)
			(*path)[0] = '\0';
		break;
	case 2:
		n = asprintf(path, "/tmp/smolvm-%u-%08x", (unsigned int)geteuid(),
			     short_hash(home));
		break;
	default:
		break;
	}
	return n >= 0;
}

int place_run_dir(const char *home, bool chosen, char **ret, struct smolvm_error *err)
{
	char *path = NULL;
	int rc;

	for (int i = 0; candidate(i, home, chosen, &path); i++) {
		if (*path == '/' && usable(path)) {
			*ret = path;
			return 0;
		}
		if (i == 2)
			break;
		free(path);
		path = NULL;
	}
	if (!path)
		return err_nomem(err);
	rc = check_private_dir(path);
	err_set(err, rc ? -rc : EIO, "there is no folder for what runs: %s must be a folder of "
		"this user alone (mode 0700): %s; set XDG_RUNTIME_DIR or a shorter SMOLVM_HOME",
		path, rc ? strerror(-rc) : "its name is too long");
	free(path);
	return rc ? rc : -EIO;
}
