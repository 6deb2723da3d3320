/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manual page, in mdoc(7), made from the tables of commands and options.
 *
 * Text goes through text(), which keeps it from being taken for requests; arguments of macros
 * begin with \&, which keeps them from being taken for macros.
 */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "cli/help.h"

#define MAN_DATE "November 20, 2026" /* when the texts were last gone through */
#define MAN_COLUMNS 78

static void escaped(FILE *f, const char *s, size_t len)
{
	for (; len; len--, s++) {
		if (*s == '\\')
			fputs("\\e", f);
		else if (*s == '-')
			fputs("\\-", f);
		else
			putc(*s, f);
	}
}

/* A paragraph of running text, folded, a sentence's end at a line's end. */
static void text(FILE *f, const char *s)
{
	size_t column = 0, len;
	bool ends = false;

	for (s += strspn(s, " \n"); *s; s += strspn(s, " \n")) {
		len = strcspn(s, " \n");
		if (column && (ends || column + 1 + len > MAN_COLUMNS)) {
			putc('\n', f);
			column = 0;
		}
		if (column)
			putc(' ', f);
		else if (*s == '.' || *s == '\'')
			fputs("\\&", f);
		escaped(f, s, len);
		column += len + (column > 0);
		ends = s[len - 1] == '.' && s[len] == ' ';
		s += len;
	}
	putc('\n', f);
}

static void paragraph(FILE *f, const char *s)
{
	fputs(".Pp\n", f);
	text(f, s);
}

static void capitals(FILE *f, const char *s)
{
	for (; *s; s++)
		putc(toupper((unsigned char)*s), f);
}

/* An argument of a macro. */
static void argument(FILE *f, const char *s)
{
	fputs(" \\&", f);
	escaped(f, s, strlen(s));
}

static void option(FILE *f, const struct option_spec *o)
{
	fputs(".It", f);
	if (o->letter)
		fprintf(f, " Fl %c ,", o->letter);
	fputs(" Fl Fl", f);
	argument(f, o->name);
	if (o->argument) {
		fputs(option_takes_value(o) ? " Ar" : " Ns Ar", f);
		argument(f, o->argument);
	}
	putc('\n', f);
	text(f, o->help);
	if (o->repeats)
		fputs("(repeatable)\n", f);
}

static void options(FILE *f, const struct option_spec *o)
{
	if (!o)
		return;
	if (!o->group)
		fputs(".Bl -tag -width Ds\n", f);
	for (; o->name; o++) {
		if (o->group) {
			fprintf(f, ".Pp\n.Sy \"%s\"\n.Bl -tag -width Ds\n", o->group);
		}
		option(f, o);
		if (!o[1].name || o[1].group)
			fputs(".El\n", f);
	}
}

static void exit_statuses(FILE *f, const struct exit_status *e)
{
	fputs(".Bl -tag -width Ds\n", f);
	for (; e->code; e++) {
		fputs(".It", f);
		argument(f, e->code);
		putc('\n', f);
		text(f, e->meaning);
	}
	fputs(".El\n", f);
}

static void examples(FILE *f, const struct command *c)
{
	const struct example *e;
	char title[128];

	for (e = c->examples; e < c->examples + EXAMPLES_MAX && e->command; e++) {
		snprintf(title, sizeof(title), "%c%s:", toupper((unsigned char)e->text[0]),
			 e->text + 1);
		paragraph(f, title);
		fputs(".Dl", f);
		argument(f, e->command);
		putc('\n', f);
	}
}

static void synopsis(FILE *f, const struct command *c)
{
	fprintf(f, ".Nm smolvm\n.Cm");
	argument(f, c->name);
	putc('\n', f);
	if (*c->synopsis)
		text(f, c->synopsis);
}

static void environment(FILE *f)
{
	static const struct {
		const char *name, *meaning;
	} variables[] = {
		{ "NO_COLOR", "if set and not empty, no colours are used on a terminal" },
		{ "SMOLVM_BACKEND", "the backend to use where --backend is not given" },
		{ "SMOLVM_HOME", "the state folder, with images and machines" },
		{ "SMOLVM_LIBEXEC",
		  "the folder of smolvm-vmm and vmlinux, where they are neither beside the "
		  "program nor where smolvm was installed" },
		{ "XDG_DATA_HOME",
		  "without SMOLVM_HOME, the state folder is the folder smolvm in this "
		  "one; without either, it is ~/.local/share/smolvm" },
	};
	size_t i;

	fputs(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n", f);
	for (i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		fprintf(f, ".It Ev %s\n", variables[i].name);
		text(f, variables[i].meaning);
	}
	fputs(".El\n", f);
}

static void page_head(FILE *f, const char *title, const char *summary)
{
	fprintf(f, ".Dd " MAN_DATE "\n.Dt");
	putc(' ', f);
	capitals(f, title);
	fprintf(f, " 1\n.Os smolvm\n.Sh NAME\n.Nm %s\n.Nd %s\n.Sh SYNOPSIS\n", title, summary);
}

static void one_command(FILE *f, const struct command *c)
{
	char title[64], *p;

	snprintf(title, sizeof(title), "smolvm-%s", c->name);
	for (p = title; *p; p++)
		if (*p == ' ')
			*p = '-';
	page_head(f, title, c->summary);
	synopsis(f, c);
	fputs(".Sh DESCRIPTION\n", f);
	fprintf(f, "%c%s.\n", toupper((unsigned char)c->summary[0]), c->summary + 1);
	help_each_paragraph(c->description, paragraph, f);
	options(f, c->options);
	fputs(".Sh EXIT STATUS\n", f);
	exit_statuses(f, help_exit_statuses(c));
	if (c->examples[0].command) {
		fputs(".Sh EXAMPLES\nAs typed in a shell:\n", f);
		examples(f, c);
	}
	fputs(".Sh SEE ALSO\n.Xr smolvm 1\n", f);
}

static void command_section(FILE *f, const struct command *c)
{
	const char *const *a;

	fprintf(f, ".Ss smolvm %s\n", c->name);
	fprintf(f, "%c%s.\n", toupper((unsigned char)c->summary[0]), c->summary + 1);
	for (a = c->aliases; *a; a++)
		fprintf(f, "%s\n.Cm \\&%s%s\n", a == c->aliases ? "Also" : "and", *a,
			a[1] ? "" : " .");
	fputs(".Pp\n", f);
	fputs(".D1", f);
	argument(f, "smolvm ");
	fprintf(f, "%s ", c->name);
	escaped(f, c->synopsis, strlen(c->synopsis));
	putc('\n', f);
	help_each_paragraph(c->description, paragraph, f);
	options(f, c->options);
	if (c->exit_statuses) {
		fputs(".Pp\nThe exit status is:\n", f);
		exit_statuses(f, c->exit_statuses);
	}
}

void man_page(FILE *f, const struct command *c)
{
	const struct command *const *each;

	if (c) {
		one_command(f, c);
		return;
	}
	page_head(f, "smolvm",
		  "run a command or a container image in a virtual machine of its own");
	for (each = commands; *each; each++)
		if (!(*each)->hidden)
			synopsis(f, *each);
	fputs(".Sh DESCRIPTION\n", f);
	text(f,
	     "smolvm runs a command, or a container image, in a virtual machine with a kernel of "
	     "its own. Each command explains itself with --help.");
	for (each = commands; *each; each++)
		if (!(*each)->hidden)
			command_section(f, *each);
	environment(f);
	fputs(".Sh EXIT STATUS\nUnless a command says otherwise above:\n", f);
	exit_statuses(f, help_exit_statuses(NULL));
	fputs(".Sh EXAMPLES\nAs typed in a shell:\n", f);
	for (each = commands; *each; each++)
		if (!(*each)->hidden)
			examples(f, *each);
	fputs(".Sh SEE ALSO\n.Xr docker 1 ,\n.Xr podman 1 ,\n.Xr qemu 1\n", f);
}
