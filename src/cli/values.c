/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers, amounts, times and environments as people write them.
 */
#include "cli/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/fd.h"

int strings_add(struct strings *s, const char *text, struct smolvm_error *err)
{
	char **items;
	char *copy;

	if (s->n >= STRINGS_MAX)
		return err_set(err, E2BIG, "more than %u values", STRINGS_MAX);
	items = reallocarray(s->items, s->n + 2, sizeof(*items));
	if (!items)
		return err_nomem(err);
	s->items = items;
	items[s->n] = NULL;
	copy = strdup(text);
	if (!copy)
		return err_nomem(err);
	items[s->n++] = copy;
	items[s->n] = NULL;
	return 0;
}

void strings_fini(struct strings *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		free(s->items[i]);
	free(s->items);
	*s = (struct strings){ 0 };
}

/* ---------------------------------------------------------------- environments */

static size_t env_find(const struct strings *env, const char *name, size_t name_len)
{
	size_t i;

	for (i = 0; i < env->n; i++)
		if (!strncmp(env->items[i], name, name_len) && env->items[i][name_len] == '=')
			break;
	return i;
}

static void env_remove(struct strings *env, size_t i)
{
	free(env->items[i]);
	memmove(env->items + i, env->items + i + 1, (env->n - i) * sizeof(*env->items));
	env->n--;
}

int env_set(struct strings *env, const char *entry, struct smolvm_error *err)
{
	size_t len = strcspn(entry, "=");
	size_t i = env_find(env, entry, len);
	AUTO_FREE char *full = NULL;
	const char *value;

	if (entry[len] == '\0') {
		value = getenv(entry);
		if (!value) {
			if (i < env->n)
				env_remove(env, i);
			return 0;
		}
		if (asprintf(&full, "%s=%s", entry, value) < 0) {
			full = NULL;
			return err_nomem(err);
		}
	} else {
		full = strdup(entry);
		if (!full)
			return err_nomem(err);
	}
	if (i == env->n && i >= ENV_MAX)
		return err_set(err, E2BIG, "more than %u environment variables", ENV_MAX);
	if (i == env->n)
		return strings_add(env, full, err);
	free(env->items[i]);
	env->items[i] = ptr_take(full);
	return 0;
}

const char *env_get(const struct strings *env, const char *name)
{
	size_t len = strlen(name);
	size_t i = env_find(env, name, len);

	return i < env->n ? env->items[i] + len + 1 : NULL;
}

int env_check(const char *entry, struct smolvm_error *err)
{
	if (*entry == '\0' || *entry == '=')
		return err_set(err, EINVAL,
			       "'%s' has no variable's name: write NAME=VALUE, or NAME", entry);
	return 0;
}

static int env_file_line(char *line, struct strings *env, struct smolvm_error *err)
{
	size_t name_len;

	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return 0;
	name_len = strcspn(line, "=");
	if (name_len == 0)
		return err_set(err, EINVAL, "no name before the '='");
	if (strcspn(line, " \t") < name_len)
		return err_set(err, EINVAL, "'%.*s' has a space in its name",
			       (int)(name_len < 64 ? name_len : 64), line);
	return strings_add(env, line, err);
}

int env_file_read(const char *path, struct strings *env, struct smolvm_error *err)
{
	AUTO_FREE char *text = NULL;
	unsigned int number = 1;
	char *line, *end;
	ssize_t len;
	int r;

	len = file_read(path, ENV_FILE_MAX_BYTES, &text);
	if (len == -EFBIG)
		return err_set(err, EFBIG, "'%s' is larger than %u bytes", path,
			       ENV_FILE_MAX_BYTES);
	if (len < 0)
		return err_set(err, (int)-len, "cannot read '%s': %s", path, strerror((int)-len));
	if (memchr(text, '\0', (size_t)len))
		return err_set(err, EINVAL, "'%s' holds a zero byte: it is not a text", path);
	line = text;
	if (!strncmp(line, "\xef\xbb\xbf", 3))
		line += 3;
	for (; *line; line = end, number++) {
		end = strchrnul(line, '\n');
		if (*end)
			*end++ = '\0';
		len = (ssize_t)strlen(line);
		if (len && line[len - 1] == '\r')
			line[len - 1] = '\0';
		r = env_file_line(line, env, err);
		if (r) {
			err_prefix(err, "'%s', line %u", path, number);
			return r;
		}
	}
	return 0;
}

/* ---------------------------------------------------------------- numbers */

/* Reads digits; moves *text behind them. Return: false when there are none or too many. */
static bool read_digits(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t n = 0;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++) {
		if (n > (UINT64_MAX / 1000000 - 9) / 10)
			return false;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	*text = p;
	*ret = n;
	return true;
}

int value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		 struct smolvm_error *err)
{
	const char *p = text;
	uint64_t n;

	if (!read_digits(&p, &n) || *p)
		return err_set(err, EINVAL, "'%s' is not a whole number", text);
	if (n < min || n > max)
		return err_set(err, ERANGE, "%s is out of range: it can be %llu to %llu", text,
			       (unsigned long long)min, (unsigned long long)max);
	*ret = n;
	return 0;
}

/* What is left of a decimal fraction behind its point, in thousandths. */
static bool read_thousandths(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t n = 0, scale = 100;

	*ret = 0;
	if (*p != '.')
		return true;
	if (!isdigit((unsigned char)*++p))
		return false;
	for (; isdigit((unsigned char)*p); p++, scale /= 10)
		n += (uint64_t)(*p - '0') * scale;
	*text = p;
	*ret = n;
	return true;
}

static unsigned int unit_shift(char unit)
{
	switch (tolower((unsigned char)unit)) {
	case 'k':
		return 10;
	case 'm':
		return 20;
	case 'g':
		return 30;
	case 't':
		return 40;
	}
	return 0;
}

static void format_mib(char *text, size_t size, uint64_t mib)
{
	if (mib >= 1024 && mib % 1024 == 0)
		snprintf(text, size, "%llug", (unsigned long long)mib / 1024);
	else
		snprintf(text, size, "%llum", (unsigned long long)mib);
}

int value_mib(const char *text, char unit, uint64_t min_mib, uint64_t max_mib, uint64_t *ret,
	      struct smolvm_error *err)
{
	uint64_t whole, thousandths, bytes, mib;
	char least[24], most[24];
	const char *p = text;
	unsigned int shift;

	shift = unit_shift(unit);
	if (!read_digits(&p, &whole) || !read_thousandths(&p, &thousandths))
		goto invalid;
	if (*p) {
		shift = unit_shift(*p++);
		if (!shift || (strcasecmp(p, "") && strcasecmp(p, "b") && strcasecmp(p, "ib")))
			goto invalid;
	}
	format_mib(least, sizeof(least), min_mib);
	format_mib(most, sizeof(most), max_mib);
	if (whole > (UINT64_MAX >> (shift + 1)))
		goto range;
	bytes = (whole << shift) + (thousandths << shift) / 1000;
	mib = (bytes >> 20) + ((bytes & 0xfffff) != 0);
	if (mib < min_mib || mib > max_mib)
		goto range;
	*ret = mib;
	return 0;
invalid:
	return err_set(err, EINVAL, "'%s' is not an amount: write 512m, 2g, or a number of %s",
		       text, unit == 'g' ? "GiB" : "MiB");
range:
	return err_set(err, ERANGE, "%s%s is out of range: it can be %s to %s", text,
		       isdigit((unsigned char)text[strlen(text) - 1]) ?
		       (unit == 'g' ? " GiB" : " MiB") : "", least, most);
}

int value_duration_ms(const char *text, int64_t *ret, struct smolvm_error *err)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {
		{ "us", 1 }, { "ms", 1000 }, { "s", 1000000 },
		{ "m", UINT64_C(60000000) }, { "h", UINT64_C(3600000000) },
		{ "", 1000000 },
	};
	uint64_t whole, thousandths, total_us = 0;
	const uint64_t max_us = (uint64_t)DURATION_MAX_MS * 1000;
	const char *p = text;
	size_t i, len;

	do {
		if (!read_digits(&p, &whole) || !read_thousandths(&p, &thousandths))
			goto invalid;
		len = strcspn(p, "0123456789");
		for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (strlen(units[i].name) == len && !strncmp(p, units[i].name, len))
				break;
		if (i == sizeof(units) / sizeof(units[0]))
			goto invalid;
		if (whole > max_us / units[i].us)
			return err_set(err, ERANGE, "'%s' is more than %lld hours", text,
				       (long long)(DURATION_MAX_MS / 3600000));
		total_us += whole * units[i].us + thousandths * units[i].us / 1000;
		p += len;
	} while (*p && total_us <= max_us);
	if (total_us > max_us)
		return err_set(err, ERANGE, "'%s' is more than %lld hours", text,
			       (long long)(DURATION_MAX_MS / 3600000));
	if (total_us == 0)
		return err_set(err, EINVAL, "'%s' is no time at all", text);
	*ret = (int64_t)((total_us + 999) / 1000);
	return 0;
invalid:
	return err_set(err, EINVAL, "'%s' is not a time: write 30s, 5m, 1h30m or 500ms", text);
}
