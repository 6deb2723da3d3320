/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command is. Adding one is a file that defines a struct command, and a line in commands.c.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/options.h"

#define EXAMPLES_MAX 8

/* Exit codes that are smolvm's own. */
#define EXIT_FAILED	  1   /* a command of smolvm failed */
#define EXIT_USAGE	  2   /* its command line is wrong */
#define EXIT_RUN_TIMEOUT  124 /* sandbox run: the time is up */
#define EXIT_RUN_FAILED	  125 /* sandbox run: smolvm failed, or its command line is wrong */
#define EXIT_RUN_NOT_EXEC 126 /* sandbox run: the command cannot be executed */
#define EXIT_RUN_NOT_FOUND 127 /* sandbox run: there is no such command */

struct exit_status {
	const char *code;
	const char *meaning;
};

struct example {
	const char *text; /* what it is for */
	const char *command;
};

/**
 * struct command - one command.
 * @name:          as it is typed, one word or a group and a word ("image ls").
 * @aliases:       other names, NULL-terminated.
 * @summary:       half a line, lower case, without a full stop.
 * @synopsis:      what follows the name.
 * @description:   paragraphs, with an empty line between them; may be NULL.
 * @exit_statuses: up to the first without a code; NULL: 0, 1 and 2 as everywhere.
 * @examples:      up to the first without a command.
 * @options:       the table, or NULL.
 * @positional:    what a shell offers where no option stands; @words with COMPLETE_WORDS.
 * @words:         see @positional.
 * @hidden:        not listed anywhere.
 * @stop_at_first: see options_parse().
 * @usage_status:  exit code for a wrong command line and for output that cannot be written.
 * @values_size:   of the struct that @options fill in; it is zeroed before.
 * @run:           does it. Return: the exit code.
 * @fini:          releases what is in the values; may be NULL.
 */
struct command {
	const char *name;
	const char *aliases[4];
	const char *summary;
	const char *synopsis;
	const char *description;
	const struct exit_status *exit_statuses;
	struct example examples[EXAMPLES_MAX];
	const struct option_spec *options;
	enum complete positional;
	const char *words;
	bool hidden;
	bool stop_at_first;
	int usage_status;
	size_t values_size;
	int (*run)(const struct command *c, void *values, const struct arguments *args);
	void (*fini)(void *values);
};

/** struct group - the first word of names of two words. */
struct group {
	const char *name;
	const char *summary;
};

/* All there are, in the order in which they are listed; both end with NULL or a NULL name. */
extern const struct command *const commands[];
extern const struct group groups[];

/**
 * command_find() - the command that @argv begins with.
 * @ret_words: how many of its words are the name.
 *
 * Return: the command, or NULL.
 */
const struct command *command_find(char *const *argv, size_t *ret_words);

/** group_find() - the group called @name, or NULL. */
const struct group *group_find(const char *name);

/** group_has() - is @c one of @g? */
bool group_has(const struct group *g, const struct command *c);

/** command_unknown() - tell the person that @argv names no command, and which one may be meant. */
void command_unknown(char *const *argv);

/**
 * command_run() - parse @argv (behind the name), run, and see that all output was written.
 * Return: the exit code.
 */
int command_run(const struct command *c, char **argv);

#endif
