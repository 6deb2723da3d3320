/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smolvm help, and the commands that print other things made from the tables: the manual page and
 * completion scripts.
 */
#include <stdio.h>
#include <string.h>

#include <smolvm/smolvm.h>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/show.h"

static int help_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct command *about;
	const struct group *g;
	size_t words;

	if (args->n == 0) {
		help_overview(stdout);
		return 0;
	}
	about = command_find(args->items, &words);
	if (about && args->n == words) {
		help_command(stdout, about);
		return 0;
	}
	g = group_find(args->items[0]);
	if (g && args->n == 1) {
		help_group(stdout, g);
		return 0;
	}
	if (about)
		show_message("'%s' has no commands of its own; try 'smolvm help %s'", about->name,
			about->name);
	else
		command_unknown(args->items);
	return c->usage_status;
}

const struct command command_help = {
	.name = "help",
	.summary = "explain a command",
	.synopsis = "[COMMAND...]",
	.examples = { { "everything about running a sandbox", "smolvm help sandbox run" } },
	.usage_status = EXIT_USAGE,
	.run = help_run,
};

static int completion_run(const struct command *c, void *values, const struct arguments *args)
{
	if (args->n == 1 && completion_print(stdout, args->items[0]) == 0)
		return 0;
	if (args->n == 1)
		show_message("'%s' is not a shell that smolvm knows; it knows bash, zsh and fish",
			args->items[0]);
	else
		show_message("'completion' takes one shell: bash, zsh or fish");
	return c->usage_status;
}

const struct command command_completion = {
	.name = "completion",
	.summary = "print a script that completes smolvm's commands in a shell",
	.synopsis = "bash|zsh|fish",
	.examples = {
		{ "in this bash", "source <(smolvm completion bash)" },
		{ "in every zsh", "smolvm completion zsh > ~/.zfunc/_smolvm" },
		{ "in every fish",
		  "smolvm completion fish > ~/.config/fish/completions/smolvm.fish" },
	},
	.positional = COMPLETE_WORDS,
	.words = "bash zsh fish",
	.usage_status = EXIT_USAGE,
	.run = completion_run,
};

static int man_run(const struct command *c, void *values, const struct arguments *args)
{
	const struct command *about = NULL;
	size_t words;

	if (args->n) {
		about = command_find(args->items, &words);
		if (!about || words != args->n) {
			command_unknown(args->items);
			return c->usage_status;
		}
	}
	man_page(stdout, about);
	return 0;
}

const struct command command_man = {
	.name = "man",
	.summary = "print the manual page",
	.synopsis = "[COMMAND...]",
	.hidden = true,
	.usage_status = EXIT_USAGE,
	.run = man_run,
};

/* Others would be expanded by some shells when they complete. */
#define NAME_CHARACTERS                                                                            \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@+"

/* What completion scripts ask. Anything that fails is no completion, and no message. */
static int complete_images_run(const struct command *c, void *values,
			       const struct arguments *args)
{
	struct smolvm_image **images;
	const char *const *name;
	struct smolvm *s;
	ssize_t n, i;

	if (smolvm_open(&s, NULL, NULL))
		return EXIT_FAILED;
	n = smolvm_image_list(s, &images, NULL);
	for (i = 0; i < n; i++) {
		for (name = images[i]->names; *name; name++)
			if ((*name)[strspn(*name, NAME_CHARACTERS)] == '\0')
				puts(*name);
	}
	if (n >= 0)
		smolvm_image_free_list(images, (size_t)n);
	smolvm_close(s);
	return n < 0 ? EXIT_FAILED : 0;
}

const struct command command_complete_images = {
	.name = "complete-images",
	.summary = "print the names of the images, a line each",
	.synopsis = "",
	.hidden = true,
	.usage_status = EXIT_USAGE,
	.run = complete_images_run,
};
