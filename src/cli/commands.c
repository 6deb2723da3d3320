/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands that there are, and how one is found and run.
 */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/help.h"
#include "cli/show.h"
#include "cli/suggest.h"

const struct command *const commands[] = {
	&command_sandbox_run,
	&command_image_ls,
	&command_image_import,
	&command_image_inspect,
	&command_image_rm,
	&command_doctor,
	&command_version,
	&command_help,
	&command_completion,
	&command_man,
	&command_complete_images,
	NULL,
};

const struct group groups[] = {
	{ "sandbox", "run something in a virtual machine of its own" },
	{ "image", "the images that are kept on this host" },
	{ NULL, NULL },
};

/* Return: how many of @argv's words @name is, 0 when it is not what they begin with. */
static size_t name_words(const char *name, char *const *argv)
{
	size_t words = 0, len;

	for (; *name; name += len + (name[len] == ' ')) {
		len = strcspn(name, " ");
		if (!argv[words] || strlen(argv[words]) != len || strncmp(argv[words], name, len))
			return 0;
		words++;
	}
	return words;
}

const struct command *command_find(char *const *argv, size_t *ret_words)
{
	const struct command *const *c;
	const char *const *alias;
	size_t words;

	for (c = commands; *c; c++) {
		words = name_words((*c)->name, argv);
		for (alias = (*c)->aliases; !words && *alias; alias++)
			words = name_words(*alias, argv);
		if (words) {
			*ret_words = words;
			return *c;
		}
	}
	return NULL;
}

const struct group *group_find(const char *name)
{
	const struct group *g;

	for (g = groups; g->name; g++)
		if (!strcmp(g->name, name))
			return g;
	return NULL;
}

bool group_has(const struct group *g, const struct command *c)
{
	size_t len = strlen(g->name);

	return !strncmp(c->name, g->name, len) && c->name[len] == ' ';
}

/* The second word of a name alone: "run" for "sandbox run". */
static void suggest_last_words(struct suggestion *s)
{
	const struct command *const *c;
	unsigned int distance;
	const char *word;

	for (c = commands; *c; c++) {
		word = strchr((*c)->name, ' ');
		distance =
			word && !(*c)->hidden ? suggest_distance(s->word, word + 1) : s->distance;
		if (distance < s->distance) {
			s->distance = distance;
			s->best = (*c)->name;
		}
	}
}

void command_unknown(char *const *argv)
{
	const struct group *g = group_find(argv[0]), *other;
	const struct command *const *c;
	struct suggestion s;
	char typed[130];
	bool two = g || (argv[1] && argv[1][0] != '-');

	snprintf(typed, sizeof(typed), "%.60s%s%.60s", argv[0], two ? " " : "", two ? argv[1] : "");
	suggestion_init(&s, typed);
	for (c = commands; two && *c; c++)
		if (!(*c)->hidden && (!g || group_has(g, *c)))
			suggestion_try(&s, (*c)->name);
	if (!s.best && !g) {
		/* What follows may be arguments, then. */
		snprintf(typed, sizeof(typed), "%.60s", argv[0]);
		suggestion_init(&s, typed);
		for (other = groups; other->name; other++)
			suggestion_try(&s, other->name);
		for (c = commands; *c; c++)
			if (!(*c)->hidden)
				suggestion_try(&s, (*c)->name);
		suggest_last_words(&s);
	}
	if (s.best)
		show_message("unknown command '%s'; did you mean 'smolvm %s'?", typed, s.best);
	else
		show_message("unknown command '%s'; 'smolvm help' lists those that there are",
			     typed);
}

int command_run(const struct command *c, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct arguments args;
	void *values;
	int r;

	values = calloc(1, c->values_size ? c->values_size : 1);
	if (!values) {
		show_message("out of memory");
		return c->usage_status;
	}
	r = options_parse(c->options, c->stop_at_first, argv, values, &args, &err);
	if (r == OPTIONS_HELP) {
		help_command(stdout, c);
		r = 0;
	} else if (r < 0) {
		show_error(&err);
		r = c->usage_status;
	} else {
		r = c->run(c, values, &args);
	}
	if (c->fini)
		c->fini(values);
	free(values);
	if (show_finish() < 0 && r == 0)
		r = c->usage_status == EXIT_USAGE ? EXIT_FAILED : c->usage_status;
	return r;
}
