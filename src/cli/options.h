/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of a command, described once: parsing, help, manual page and completion follow from it.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

#include "cli/values.h"

/** enum complete - what a shell offers for a value or a positional argument. */
enum complete {
	COMPLETE_NONE,
	COMPLETE_FILE,
	COMPLETE_DIR,
	COMPLETE_IMAGE, /* a name of the store */
	COMPLETE_WORDS, /* a fixed list */
};

/**
 * struct option_spec - one option. A table of them ends with an entry without a name.
 * @letter:   its short form, 0 when it has none.
 * @name:     its long form, without the dashes.
 * @argument: what its value is called in the help; NULL: it takes none. "[=NAME]": it may be
 *            left out, and is given with '=' only.
 * @parse:    stores it; @value is NULL where it takes none.
 * @offset:   where: in the command's struct of values.
 * @min, @max: bounds of a number, in the unit of the parser.
 * @repeats:  it may be given several times, each counts; of others the last one does.
 * @group:    the heading that the help puts it under; NULL: as the entry before.
 * @help:     a sentence without a full stop.
 * @complete, @words: what a shell offers for the value; words are apart by spaces.
 */
struct option_spec {
	char letter;
	const char *name;
	const char *argument;
	int (*parse)(const struct option_spec *spec, void *target, const char *value,
		     struct smolvm_error *err);
	size_t offset;
	uint64_t min, max;
	bool repeats;
	const char *group;
	const char *help;
	enum complete complete;
	const char *words;
};

/* The parsers, and what they store. */
int option_flag(const struct option_spec *spec, void *target, const char *value,
		struct smolvm_error *err);   /* bool */
int option_string(const struct option_spec *spec, void *target, const char *value,
		  struct smolvm_error *err); /* const char *, points into argv */
int option_word(const struct option_spec *spec, void *target, const char *value,
		struct smolvm_error *err);   /* const char *, one of the words; "" when left out */
int option_env(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err);    /* struct strings */
int option_env_file(const struct option_spec *spec, void *target, const char *value,
		    struct smolvm_error *err); /* struct strings: what is in the files */
int option_number(const struct option_spec *spec, void *target, const char *value,
		  struct smolvm_error *err); /* unsigned int */
int option_mib(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err);    /* unsigned int, MiB where there is no unit */
int option_gib(const struct option_spec *spec, void *target, const char *value,
	       struct smolvm_error *err);    /* unsigned int, in MiB; GiB where there is no unit */
int option_duration(const struct option_spec *spec, void *target, const char *value,
		    struct smolvm_error *err); /* int64_t, ms */

/** option_takes_value() - does what follows it belong to it? */
static inline bool option_takes_value(const struct option_spec *spec)
{
	return spec->argument && !(spec->argument[0] == '[' && spec->argument[1] == '=');
}

/**
 * struct arguments - what is not an option.
 * @items:     NULL-terminated, points into argv.
 * @separated: "--" came before the first of them.
 */
struct arguments {
	char **items;
	size_t n;
	bool separated;
};

#define OPTIONS_HELP 1 /* -h or --help was given */

/**
 * options_parse() - take a command line apart.
 * @specs:         the table.
 * @stop_at_first: options end at the first argument that is none, as with a command that runs
 *                 another one; else they may stand anywhere before "--".
 * @argv:          NULL-terminated, behind the command's name; it is reordered.
 * @values:        what the table's offsets are in, zeroed. Parsers may have filled in a part of it
 *                 when this fails.
 *
 * Return: 0, OPTIONS_HELP, or a negative errno (-EINVAL, -ERANGE, ...).
 */
int options_parse(const struct option_spec *specs, bool stop_at_first, char **argv, void *values,
		  struct arguments *ret, struct smolvm_error *err);

#endif
