/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared folders and files as people write them: -v and --mount.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/values.h"

#define MOUNT_FIELD_MAX 8192

void volume_fini(struct volume *v)
{
	free(v->host);
	free(v->guest);
	*v = (struct volume){ 0 };
}

/* Fills in @ret from parts that are not NUL-terminated. */
static int volume_make(const char *host, size_t host_len, const char *guest, size_t guest_len,
		       bool read_only, struct volume *ret, struct smolvm_error *err)
{
	AUTO_FREE char *cwd = NULL;
	struct volume v = { .read_only = read_only };
	char *relative;

	if (host_len == 0)
		return err_set(err, EINVAL, "no path of this host is named");
	if (guest_len == 0 || guest[0] != '/')
		return err_set(err, EINVAL, "the path in the guest, '%.*s', must begin with /",
			       (int)guest_len, guest);
	v.host = strndup(host, host_len);
	v.guest = strndup(guest, guest_len);
	if (!v.host || !v.guest) {
		volume_fini(&v);
		return err_nomem(err);
	}
	if (host[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd) {
			volume_fini(&v);
			return err_sys(err, "cannot tell the current folder");
		}
		relative = v.host;
		v.host = path_join(cwd, relative);
		free(relative);
		if (!v.host) {
			volume_fini(&v);
			return err_nomem(err);
		}
	}
	*ret = v;
	return 0;
}

int value_volume(const char *text, struct volume *ret, struct smolvm_error *err)
{
	const char *guest = strchr(text, ':');
	const char *mode;
	bool read_only;
	int r;

	if (!guest)
		return err_set(err, EINVAL, "'%s' has no path for the guest: write HOST:GUEST, or "
			       "HOST:GUEST:ro", text);
	guest++;
	mode = strchrnul(guest, ':');
	read_only = !strcmp(mode, ":ro");
	if (*mode && !read_only && strcmp(mode, ":rw"))
		return err_set(err, EINVAL,
			       "'%s' ends neither in :ro nor in :rw; where a path has a "
			       "colon in it, write --mount type=bind,source=...,target=...",
			       text);
	r = volume_make(text, (size_t)(guest - 1 - text), guest, (size_t)(mode - guest), read_only,
			ret, err);
	if (r)
		err_prefix(err, "'%s'", text);
	return r;
}

/* ---------------------------------------------------------------- --mount */

/*
 * Takes the next field, without its quotes, into @field; moves *text behind its comma.
 * Return: 0, -EINVAL (a quote is not closed), -EFBIG.
 */
static int next_field(const char **text, char *field, struct smolvm_error *err)
{
	const char *p = *text;
	bool quoted = false;
	size_t n = 0;

	for (; *p && (quoted || *p != ','); p++) {
		if (*p == '"' && !(quoted && p[1] == '"')) {
			quoted = !quoted;
			continue;
		}
		if (*p == '"')
			p++;
		if (n == MOUNT_FIELD_MAX - 1)
			return err_set(err, EFBIG, "a part is longer than %d bytes",
				       MOUNT_FIELD_MAX);
		field[n++] = *p;
	}
	field[n] = '\0';
	if (quoted)
		return err_set(err, EINVAL, "a double quote is not closed");
	*text = *p ? p + 1 : p;
	return 0;
}

struct mount_fields {
	char *host, *guest;
	bool read_only;
};

static int mount_flag(const char *key, const char *value, bool *ret, struct smolvm_error *err)
{
	if (!value || !strcmp(value, "true") || !strcmp(value, "1"))
		*ret = true;
	else if (!strcmp(value, "false") || !strcmp(value, "0"))
		*ret = false;
	else
		return err_set(err, EINVAL, "%s can be true or false, not '%s'", key, value);
	return 0;
}

static int mount_path(const char *key, const char *value, char **ret, struct smolvm_error *err)
{
	if (!value)
		return err_set(err, EINVAL, "%s needs a path: %s=PATH", key, key);
	if (*ret)
		return err_set(err, EINVAL, "%s is given twice", key);
	*ret = strdup(value);
	return *ret ? 0 : err_nomem(err);
}

static int mount_field(char *field, struct mount_fields *f, struct smolvm_error *err)
{
	char *value = strchr(field, '=');

	if (value)
		*value++ = '\0';
	if (!strcmp(field, "type")) {
		if (value && !strcmp(value, "bind"))
			return 0;
		return err_set(err, EINVAL, "the type can only be bind, not '%s'",
			       value ? value : "");
	}
	if (!strcmp(field, "source") || !strcmp(field, "src"))
		return mount_path(field, value, &f->host, err);
	if (!strcmp(field, "target") || !strcmp(field, "dst") || !strcmp(field, "destination"))
		return mount_path(field, value, &f->guest, err);
	if (!strcmp(field, "readonly") || !strcmp(field, "ro"))
		return mount_flag(field, value, &f->read_only, err);
	return err_set(err, EINVAL, "'%s' is not known: it takes type=bind, source=, target= and "
		       "readonly", field);
}

int value_mount(const char *text, struct volume *ret, struct smolvm_error *err)
{
	AUTO_FREE char *field = malloc(MOUNT_FIELD_MAX);
	struct mount_fields f = { 0 };
	const char *p = text;
	int r = 0;

	if (!field)
		return err_nomem(err);
	while (*p && !r) {
		r = next_field(&p, field, err);
		if (!r)
			r = mount_field(field, &f, err);
	}
	if (!r && (!f.host || !f.guest))
		r = err_set(err, EINVAL, "no %s=: write type=bind,source=HOST,target=GUEST",
			    f.host ? "target" : "source");
	if (!r)
		r = volume_make(f.host, strlen(f.host), f.guest, strlen(f.guest), f.read_only, ret,
				err);
	if (r)
		err_prefix(err, "'%s'", text);
	free(f.host);
	free(f.guest);
	return r;
}
