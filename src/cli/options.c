/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a command line apart by a table of options.
 */
#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "cli/suggest.h"

/* ---------------------------------------------------------------- parsers */

int option_flag(const struct option_spec *spec, void *target, const char *value,
		struct smolvm_error *err)
{
	*(bool *)target = true;
	return 0;
}

int option_string(const struct option_spec *spec, void *target, const char *value,
		  struct smolvm_error *err)
{
	*(const char **)target = value;
	return 0;
}

int option_word(const struct option_spec *spec, void *target, const char *value,
		struct smolvm_error *err)
{
	const char *word;
	size_t len;

	*(const char **)target = value ? value : "";
	if (!value)
		return 0;
	for (word = spec->words; *word; word += len + (word[len] == ' ')) {
		len = strcspn(word, " ");
		if (strlen(value) == len && !strncmp(word, value, len))
			return 0;
	}
	return err_set(err, EINVAL, "'%s' is not one of: %s", value, spec->words);
}

int option_env(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err)
{
	int r = env_check(value, err);

	return r ? r : strings_add(target, value, err);
}

int option_env_file(const struct option_spec *spec, void *target, const char *value,
		    struct smolvm_error *err)
{
	return env_file_read(value, target, err);
}

int option_number(const struct option_spec *spec, void *target, const char *value,
		  struct smolvm_error *err)
{
	uint64_t n;
	int r = value_number(value, spec->min, spec->max, &n, err);

	if (!r)
		*(unsigned int *)target = (unsigned int)n;
	return r;
}

static int store_mib(const struct option_spec *spec, void *target, const char *value, char unit,
		     struct smolvm_error *err)
{
	uint64_t n;
	int r = value_mib(value, unit, spec->min, spec->max, &n, err);

	if (!r)
		*(unsigned int *)target = (unsigned int)n;
	return r;
}

int option_mib(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err)
{
	return store_mib(spec, target, value, 'm', err);
}

int option_gib(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err)
{
	return store_mib(spec, target, value, 'g', err);
}

int option_duration(const struct option_spec *spec, void *target, const char *value,
		    struct smolvm_error *err)
{
	return value_duration_ms(value, target, err);
}

/* ---------------------------------------------------------------- the command line */

static int unknown_long(const struct option_spec *specs, const char *name, size_t len,
			struct smolvm_error *err)
{
	struct suggestion s;
	char shown[64];

	snprintf(shown, sizeof(shown), "%.*s", (int)(len < 63 ? len : 63), name);
	suggestion_init(&s, shown);
	for (; specs && specs->name; specs++)
		suggestion_try(&s, specs->name);
	suggestion_try(&s, "help");
	if (s.best)
		return err_set(err, EINVAL, "unknown option --%s; did you mean --%s?", shown,
			       s.best);
	return err_set(err, EINVAL, "unknown option --%s; --help lists those that there are",
		       shown);
}

static int store(const struct option_spec *spec, const char *value, void *values,
		 struct smolvm_error *err)
{
	int r = spec->parse(spec, (char *)values + spec->offset, value, err);

	if (r)
		err_prefix(err, "--%s", spec->name);
	return r;
}

/*
 * One argument that begins with "--" (text behind it). *next is the argument after it, taken when
 * the option needs it.
 */
static int parse_long(const struct option_spec *specs, const char *text, char ***next,
		      void *values, struct smolvm_error *err)
{
	size_t len = strcspn(text, "=");
	const char *value = text[len] ? text + len + 1 : NULL;
	const struct option_spec *spec;

	for (spec = specs; spec && spec->name; spec++)
		if (strlen(spec->name) == len && !strncmp(spec->name, text, len))
			break;
	if (!spec || !spec->name) {
		if (len == 4 && !strncmp(text, "help", 4) && !value)
			return OPTIONS_HELP;
		return unknown_long(specs, text, len, err);
	}
	if (!spec->argument && value)
		return err_set(err, EINVAL, "--%s takes no value", spec->name);
	if (option_takes_value(spec) && !value) {
		value = **next;
		if (!value)
			return err_set(err, EINVAL, "--%s needs a value: --%s %s", spec->name,
				       spec->name, spec->argument);
		(*next)++;
	}
	return store(spec, value, values, err);
}

/* One argument that begins with "-": letters, the last of which may take a value. */
static int parse_letters(const struct option_spec *specs, const char *text, char ***next,
			 void *values, struct smolvm_error *err)
{
	const struct option_spec *spec;
	const char *value;
	int r;

	for (; *text; text++) {
		for (spec = specs; spec && spec->name; spec++)
			if (spec->letter == *text)
				break;
		if (!spec || !spec->name) {
			if (*text == 'h')
				return OPTIONS_HELP;
			return err_set(err, EINVAL, "unknown option -%c; --help lists those that "
				       "there are", *text);
		}
		value = NULL;
		if (option_takes_value(spec)) {
			value = text[1] == '=' ? text + 2 : text + 1;
			if (!text[1])
				value = **next;
			if (!value)
				return err_set(err, EINVAL, "-%c needs a value: -%c %s",
					       spec->letter, spec->letter, spec->argument);
			*next += !text[1];
		}
		r = store(spec, value, values, err);
		if (r || value)
			return r;
	}
	return 0;
}

int options_parse(const struct option_spec *specs, bool stop_at_first, char **argv, void *values,
		  struct arguments *ret, struct smolvm_error *err)
{
	struct arguments args = { .items = argv };
	char **next = argv;
	char *arg;
	int r;

	while ((arg = *next)) {
		if (arg[0] != '-' || arg[1] == '\0') {
			if (stop_at_first)
				break;
			next++;
			args.items[args.n++] = arg;
			continue;
		}
		next++;
		if (!strcmp(arg, "--")) {
			args.separated = args.n == 0;
			break;
		}
		if (arg[1] == '-')
			r = parse_long(specs, arg + 2, &next, values, err);
		else
			r = parse_letters(specs, arg + 1, &next, values, err);
		if (r)
			return r;
	}
	/* What is left is not looked at; it moves down to the arguments already found. */
	while (*next)
		args.items[args.n++] = *next++;
	args.items[args.n] = NULL;
	*ret = args;
	return 0;
}
