/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images.
 */
#include "image/name.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Taken off in this order, each once. */
static const char *const implied[] = {
	"index.docker.io/", "docker.io/", "localhost/", "library/",
};

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("._-+/:", c));
}

int name_normalize(const char *name, char ret[NAME_LEN_MAX + 1], struct smolvm_error *err)
{
	const char *slash, *rest = name;
	size_t len;
	bool tagged;

	for (size_t i = 0; i < sizeof(implied) / sizeof(*implied); i++)
		if (strncmp(rest, implied[i], strlen(implied[i])) == 0)
			rest += strlen(implied[i]);
	len = strlen(rest);
	slash = strrchr(rest, '/');
	tagged = strchr(slash ? slash : rest, ':');
	if (len + (tagged ? 0 : strlen(":latest")) > NAME_LEN_MAX)
		return err_set(err, EINVAL, "an image's name may have at most %d bytes: "
			       "\"%.40s...\"", NAME_LEN_MAX, name);
	for (size_t i = 0; i < len; i++)
		if (!is_name_char(rest[i]))
			len = 0;
	if (len == 0 || !isalnum((unsigned char)*rest) || rest[len - 1] == ':' ||
	    rest[len - 1] == '/')
		return err_set(err, EINVAL, "\"%.255s\" is not a name for an image: it begins with "
			       "a letter or digit and consists of those and . _ - + / :", name);
	memcpy(ret, rest, len + 1);
	if (!tagged)
		memcpy(ret + len, ":latest", sizeof(":latest"));
	return 0;
}

/* The line @name (of @len bytes) in the list? */
static bool has_line(const struct name_list *list, const char *name, size_t len)
{
	const char *p = list->text;

	while (p && *p) {
		size_t n = strcspn(p, "\n");

		if (n == len && memcmp(p, name, len) == 0)
			return true;
		p += n + 1;
	}
	return false;
}

int name_list_add(struct name_list *list, const char *name, struct smolvm_error *err)
{
	char line[NAME_LEN_MAX + 1];
	int rc = name_normalize(name, line, err);
	size_t len;
	char *text;

	if (rc < 0)
		return rc;
	len = strlen(line);
	if (has_line(list, line, len))
		return 0;
	if (list->n >= NAME_LIST_MAX)
		return err_set(err, EFBIG, "an image with more than %d names", NAME_LIST_MAX);
	text = realloc(list->text, list->len + len + 2);
	if (!text)
		return err_nomem(err);
	memcpy(text + list->len, line, len);
	memcpy(text + list->len + len, "\n", 2);
	list->text = text;
	list->len += len + 1;
	list->n++;
	return 0;
}

void name_list_fini(struct name_list *list)
{
	free(list->text);
	*list = (struct name_list){ 0 };
}

bool name_list_has(const struct name_list *list, const char *wanted)
{
	char line[NAME_LEN_MAX + 1];
	size_t wanted_len = strlen(wanted);
	const char *p = list->text;

	if (name_normalize(wanted, line, NULL) == 0 && has_line(list, line, strlen(line)))
		return true;
	while (p && *p) {
		size_t n = strcspn(p, "\n");

		if (n > wanted_len && p[n - wanted_len - 1] == ':' &&
		    memcmp(p + n - wanted_len, wanted, wanted_len) == 0)
			return true;
		p += n + 1;
	}
	return false;
}
