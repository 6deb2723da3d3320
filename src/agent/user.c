/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a command runs as, from the image's own /etc/passwd and /etc/group.
 *
 * The C library's own lookups are not used: a static program cannot load what they may ask for,
 * and the files are written by strangers. A line is split into a fixed number of fields; one that
 * has fewer, or numbers that are none, is skipped.
 */
#include "agent/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"

#define FIELDS_MAX 7

/* A piece of text that is not NUL-terminated. */
struct span {
	const char *p;
	size_t n;
};

static bool span_is(struct span s, const char *name)
{
	return s.n == strlen(name) && memcmp(s.p, name, s.n) == 0;
}

/* An id: decimal digits only, below 2^32 - 1 (which the kernel takes for "no change"). */
static bool parse_id(struct span s, uint32_t *ret)
{
	uint64_t v = 0;

	if (s.n == 0 || s.n > 10)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/*
 * The next line that has at least @want fields. @at moves behind it.
 * Return: false at the end of the text.
 */
static bool next_entry(const char **at, size_t want, struct span fields[FIELDS_MAX])
{
	while (*at && **at) {
		const char *end = strchrnul(*at, '\n');
		const char *p = *at;
		size_t n = 0;

		*at = *end ? end + 1 : end;
		while (n < FIELDS_MAX) {
			const char *colon = memchr(p, ':', (size_t)(end - p));

			fields[n].p = p;
			fields[n++].n = (size_t)((colon ? colon : end) - p);
			if (!colon)
				break;
			p = colon + 1;
		}
		if (n >= want && fields[0].n)
			return true;
	}
	return false;
}

/* The entry of passwd named @name, else the first with number @id (when @is_id). */
static bool find_user(const char *passwd, const char *name, bool is_id, uint32_t id,
		      struct span ret[FIELDS_MAX])
{
	struct span f[FIELDS_MAX];
	uint32_t uid, gid;
	bool found = false;

	while (next_entry(&passwd, 6, f)) {
		if (!parse_id(f[2], &uid) || !parse_id(f[3], &gid))
			continue;
		if (span_is(f[0], name)) {
			memcpy(ret, f, sizeof(f));
			return true;
		}
		if (!found && is_id && uid == id) {
			memcpy(ret, f, sizeof(f));
			found = true;
		}
	}
	return found;
}

static bool is_member(struct span list, struct span name)
{
	const char *p = list.p, *end = list.p + list.n;

	while (p <= end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t n = (size_t)((comma ? comma : end) - p);

		if (n == name.n && memcmp(p, name.p, n) == 0)
			return true;
		if (!comma)
			break;
		p = comma + 1;
	}
	return false;
}

static void add_memberships(const char *group, struct span name, struct user *u)
{
	struct span f[FIELDS_MAX];
	uint32_t gid;

	while (u->n_groups < USER_GROUPS_MAX && next_entry(&group, 4, f))
		if (parse_id(f[2], &gid) && is_member(f[3], name))
			u->groups[u->n_groups++] = gid;
}

static int resolve_group(const char *name, const char *group, struct user *u,
			 struct smolvm_error *err)
{
	struct span f[FIELDS_MAX];
	uint32_t gid;

	while (next_entry(&group, 3, f)) {
		if (span_is(f[0], name) && parse_id(f[2], &gid)) {
			u->gid = gid;
			return 0;
		}
	}
	if (!parse_id((struct span){ name, strlen(name) }, &u->gid))
		return err_set(err, EINVAL, "no group '%s' in the image's /etc/group", name);
	return 0;
}

int user_resolve(const char *spec, const char *passwd, const char *group, struct user *ret,
		 struct smolvm_error *err)
{
	char name[USER_NAME_MAX] = "0";
	const char *colon = spec ? strchrnul(spec, ':') : NULL;
	const char *group_name = colon && *colon && colon[1] ? colon + 1 : NULL;
	struct span f[FIELDS_MAX] = { 0 };
	uint32_t id = 0;
	bool is_id, known;

	if (colon && (size_t)(colon - spec) >= sizeof(name))
		return err_set(err, EINVAL, "the user's name is too long");
	if (colon && colon > spec)
		snprintf(name, sizeof(name), "%.*s", (int)(colon - spec), spec);
	is_id = parse_id((struct span){ name, strlen(name) }, &id);
	known = find_user(passwd, name, is_id, id, f);
	if (!known && !is_id)
		return err_set(err, EINVAL, "no user '%s' in the image's /etc/passwd", name);

	ret->uid = id;
	ret->gid = 0;
	ret->n_groups = 0;
	snprintf(ret->home, sizeof(ret->home), "/");
	if (known) {
		parse_id(f[2], &ret->uid);
		parse_id(f[3], &ret->gid);
		if (f[5].n && f[5].n < sizeof(ret->home))
			snprintf(ret->home, sizeof(ret->home), "%.*s", (int)f[5].n, f[5].p);
	}
	if (group_name)
		return resolve_group(group_name, group, ret, err);
	if (known)
		add_memberships(group, f[0], ret);
	return 0;
}

/* The file's text, NULL when there is none worth reading: a stranger's file may be of any type. */
static char *read_text(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	n = st.st_size < (off_t)USER_FILE_MAX ? (ssize_t)st.st_size : (ssize_t)USER_FILE_MAX;
	text = malloc((size_t)n + 1);
	if (!text)
		return NULL;
	n = fd_read_full(fd, text, (size_t)n);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

int user_lookup(const char *spec, struct user *ret, struct smolvm_error *err)
{
	AUTO_FREE char *passwd = read_text("/etc/passwd");
	AUTO_FREE char *group = read_text("/etc/group");

	return user_resolve(spec, passwd, group, ret, err);
}
