/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process between fork and exec.
 *
 * Whatever may wait for a shared folder (looking at the image's users, making the working
 * directory, finding the program) happens here and not in the agent, which serves the folder.
 */
#include "agent/command_child.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/root.h"
#include "agent/user.h"
#include "base/err.h"
#include "base/fd.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULT_TERM "xterm"
#define FILES_SOFT   1024
#define FILES_HARD   1048576
#define TTY_GROUP    5

/* ---- environment and program ---- */

static const char *find_variable(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

char **command_environment(const struct strings *given, const char *home, bool tty)
{
	char **env = calloc(given->n + 4, sizeof(*env));
	size_t n = given->n;

	if (!env)
		return NULL;
	if (n)
		memcpy(env, given->v, n * sizeof(*env));
	if (!find_variable(env, "PATH"))
		env[n++] = (char *)"PATH=" DEFAULT_PATH;
	if (!find_variable(env, "HOME") && asprintf(&env[n++], "HOME=%s", home) < 0)
		return NULL;
	if (tty && !find_variable(env, "TERM"))
		env[n++] = (char *)"TERM=" DEFAULT_TERM;
	return env;
}

/*
 * As a shell does it: the first that can be executed; when there is none, that permission was
 * denied is worth more than that a file was missing. Return: -errno.
 */
static int exec_in_path(char *const *argv, char *const *env)
{
	const char *at = find_variable(env, "PATH");
	char path[PATH_MAX];
	int result = ENOENT;

	if (!*argv[0])
		return -ENOENT;
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, env);
		return -errno;
	}
	while (at) {
		const char *end = strchrnul(at, ':');
		int dir_len = (int)(end - at);

		if (snprintf(path, sizeof(path), "%.*s%s%s", dir_len, at, dir_len ? "/" : "",
			     argv[0]) < (int)sizeof(path)) {
			execve(path, argv, env);
			if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
				return -errno;
			if (errno == EACCES)
				result = EACCES;
		}
		at = *end ? end + 1 : NULL;
	}
	return -result;
}

/* ---- steps ---- */

static int attach_stdio(const struct command *c, const int stdio[3], struct smolvm_error *err)
{
	for (int i = 0; i < 3; i++)
		if (dup2(c->tty ? stdio[0] : stdio[i], i) < 0)
			return err_sys(err, "attaching standard streams");
	return c->tty && ioctl(0, TIOCSCTTY, 0) < 0 ? err_sys(err, "taking the terminal") : 0;
}

/* The main group is among the others too: a set-gid program must not lose it. */
static int become(const struct user *u, struct smolvm_error *err)
{
	gid_t groups[USER_GROUPS_MAX + 1] = { u->gid };

	for (size_t i = 0; i < u->n_groups; i++)
		groups[i + 1] = u->groups[i];
	if (setgroups(u->n_groups + 1, groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
		return err_sys(err, "becoming user %u:%u", u->uid, u->gid);
	return 0;
}

static int bad_directory(const char *cwd, int rc, struct smolvm_error *err)
{
	return err_set(err, EINVAL, "the working directory '%s': %s", cwd, strerror(-rc));
}

/*
 * The directory is made and entered as root, as container engines do it; one that root may not
 * enter (on a shared folder) may be the user's.
 */
static int enter_directory(const char *cwd, const struct user *u, struct smolvm_error *err)
{
	int rc = 0;

	if (chdir(cwd) < 0) {
		rc = -errno;
		if (rc == -ENOENT)
			rc = root_make_dirs(cwd);
		if (rc == 0 && chdir(cwd) < 0)
			rc = -errno;
	}
	if (rc < 0 && rc != -EACCES)
		return bad_directory(cwd, rc, err);
	if (become(u, err) < 0)
		return -err->code;
	if (rc < 0 && chdir(cwd) < 0)
		return bad_directory(cwd, -errno, err);
	return 0;
}

static int run(const struct command *c, struct user *u, struct smolvm_error *err)
{
	const struct rlimit files = { FILES_SOFT, FILES_HARD };
	char **env;
	int rc;

	rc = user_lookup(c->user, u, err);
	if (rc == 0 && c->tty && u->uid && fchown(0, u->uid, TTY_GROUP) < 0)
		rc = err_sys(err, "owning the terminal");
	if (rc == 0) {
		setrlimit(RLIMIT_NOFILE, &files);
		rc = enter_directory(c->cwd && *c->cwd ? c->cwd : "/", u, err);
	}
	if (rc < 0)
		return rc;
	env = command_environment(&c->env, u->home, c->tty);
	if (!env)
		return err_nomem(err);
	rc = exec_in_path(c->args.v, env);
	return err_set(err, -rc, "%s: %s", c->args.v[0], strerror(-rc));
}

void command_child(const struct command *c, const int stdio[3], int status)
{
	static struct user u;
	static struct smolvm_error err;

	setsid();
	if (attach_stdio(c, stdio, &err) == 0) {
		children_keep_only(&status, 1);
		run(c, &u, &err);
	}
	fd_write_all(status, &err, sizeof(err));
	_exit(127);
}
