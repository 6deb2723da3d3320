/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help texts, made from the tables of commands and options.
 */
#include "cli/help.h"

#include <string.h>

#include "cli/show.h"

#define OPTION_COLUMN  26 /* where the explanation of an option begins */
#define COMMAND_COLUMN 18 /* and that of a command */
#define PARAGRAPH_MAX  2048

static void heading(FILE *f, const char *text)
{
	fprintf(f, "\n%s%s:%s\n", show_colour(f, COLOUR_BOLD), text, show_plain(f));
}

/* "  left       text", folded; the text on a line of its own when the left part is long. */
static void entry(FILE *f, unsigned int column, const char *left, const char *text)
{
	size_t len = strlen(left);

	fprintf(f, "  %s", left);
	if (len + 4 > column)
		fprintf(f, "\n%*s", (int)column, "");
	else
		fprintf(f, "%*s", (int)(column - 2 - len), "");
	show_fold(f, column, column, text);
}

static void print_option(FILE *f, const struct option_spec *o)
{
	char left[128], letter[8] = "    ";
	char text[1024];

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name,
		 option_takes_value(o) ? " " : "", o->argument ? o->argument : "");
	snprintf(text, sizeof(text), "%s%s", o->help, o->repeats ? " (repeatable)" : "");
	entry(f, OPTION_COLUMN, left, text);
}

static void print_options(FILE *f, const struct command *c)
{
	const struct option_spec *o;

	if (!c->options || !c->options->group)
		heading(f, "Options");
	for (o = c->options; o && o->name; o++) {
		if (o->group)
			heading(f, o->group);
		print_option(f, o);
	}
	if (c->options && c->options->group)
		heading(f, "Other");
	entry(f, OPTION_COLUMN, "-h, --help", "print this and exit");
}

void help_each_paragraph(const char *text, void (*print)(FILE *f, const char *paragraph), FILE *f)
{
	char paragraph[PARAGRAPH_MAX];
	const char *end;

	while (text && *text) {
		end = strstr(text, "\n\n");
		snprintf(paragraph, sizeof(paragraph), "%.*s",
			 end ? (int)(end - text) : (int)strlen(text), text);
		print(f, paragraph);
		text = end ? end + 2 : NULL;
	}
}

static void print_paragraph(FILE *f, const char *text)
{
	putc('\n', f);
	show_fold(f, 0, 0, text);
}

const struct exit_status *help_exit_statuses(const struct command *c)
{
	static const struct exit_status usual[] = {
		{ "0", "done" },
		{ "1", "it failed; why is said on standard error" },
		{ "2", "the command line is wrong" },
		{ 0 }
	};

	return c && c->exit_statuses ? c->exit_statuses : usual;
}

static void print_exit_statuses(FILE *f, const struct exit_status *e)
{
	heading(f, "Exit status");
	for (; e->code; e++) {
		fprintf(f, "  %-8s", e->code);
		show_fold(f, 10, 10, e->meaning);
	}
}

static void print_aliases(FILE *f, const struct command *c)
{
	const char *const *a = c->aliases;

	if (!*a)
		return;
	fprintf(f, "\nAlso: ");
	for (; *a; a++)
		fprintf(f, "smolvm %s%s", *a, a[1] ? ", " : "\n");
}

void help_command(FILE *f, const struct command *c)
{
	const struct example *e;

	fprintf(f, "smolvm %s - %s\n", c->name, c->summary);
	heading(f, "Usage");
	fprintf(f, "  smolvm %s%s%s\n", c->name, *c->synopsis ? " " : "", c->synopsis);
	help_each_paragraph(c->description, print_paragraph, f);
	if (c->examples[0].command) {
		heading(f, "Examples");
		for (e = c->examples; e < c->examples + EXAMPLES_MAX && e->command; e++)
			fprintf(f, "  # %s\n  %s\n", e->text, e->command);
	}
	print_options(f, c);
	print_exit_statuses(f, help_exit_statuses(c));
	print_aliases(f, c);
}

void help_group(FILE *f, const struct group *g)
{
	const struct command *const *c;

	fprintf(f, "smolvm %s - %s\n", g->name, g->summary);
	heading(f, "Usage");
	fprintf(f, "  smolvm %s COMMAND ...\n", g->name);
	heading(f, "Commands");
	for (c = commands; *c; c++)
		if (!(*c)->hidden && group_has(g, *c))
			entry(f, COMMAND_COLUMN, (*c)->name, (*c)->summary);
	fprintf(f, "\n'smolvm %s COMMAND --help' tells more about one.\n", g->name);
}

void help_overview(FILE *f)
{
	const struct command *const *c;

	fprintf(f, "smolvm - run a command or a container image in a virtual machine of its own\n");
	heading(f, "Usage");
	fprintf(f, "  smolvm COMMAND ...\n");
	heading(f, "Commands");
	for (c = commands; *c; c++)
		if (!(*c)->hidden)
			entry(f, COMMAND_COLUMN, (*c)->name, (*c)->summary);
	heading(f, "Examples");
	fprintf(f, "  smolvm sandbox run -- uname -a\n");
	fprintf(f, "  smolvm sandbox run ./image.tar -- sh -c 'echo hello'\n");
	fprintf(f, "  smolvm doctor\n");
	fprintf(f, "\n'smolvm COMMAND --help' tells more about one; 'smolvm --version' says which "
		   "this is.\n");
}
