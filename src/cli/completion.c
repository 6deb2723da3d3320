/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts for bash, zsh and fish, made from the tables of commands and options.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cli/help.h"

/* The parts of a name: "image ls" is the group "image" and the word "ls". */
static const char *second_word(const struct command *c)
{
	const char *space = strchr(c->name, ' ');

	return space ? space + 1 : NULL;
}

typedef void print_word(FILE *f, const char *group, const char *word, const char *summary);

/* Every first word, groups once. */
static void each_first_word(FILE *f, print_word *print)
{
	const struct command *const *c;
	const struct group *g;

	for (g = groups; g->name; g++)
		print(f, "", g->name, g->summary);
	for (c = commands; *c; c++)
		if (!(*c)->hidden && !second_word(*c))
			print(f, "", (*c)->name, (*c)->summary);
}

static void each_in_group(FILE *f, const struct group *g, print_word *print)
{
	const struct command *const *c;

	for (c = commands; *c; c++)
		if (!(*c)->hidden && group_has(g, *c))
			print(f, g->name, second_word(*c), (*c)->summary);
}

/* Inside single quotes of a shell; @also are characters that get a backslash. */
static void quoted(FILE *f, const char *s, const char *also, const char *quote)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs(quote, f);
		else if (strchr(also, *s))
			fprintf(f, "\\%c", *s);
		else
			putc(*s, f);
	}
}

/* ---------------------------------------------------------------- bash */

static void bash_word(FILE *f, const char *group, const char *word, const char *summary)
{
	fprintf(f, "%s ", word);
}

static void bash_options(FILE *f, const struct option_spec *o, bool with_value_only)
{
	for (; o && o->name; o++) {
		if (with_value_only && !option_takes_value(o))
			continue;
		fprintf(f, "--%s ", o->name);
		if (o->letter)
			fprintf(f, "-%c ", o->letter);
	}
}

static void bash_command(FILE *f, const struct command *c)
{
	fprintf(f, "\t'%s'%s)\n\t\toptions='", c->name, second_word(c) ? "" : "*");
	bash_options(f, c->options, false);
	fputs("--help -h'\n\t\tvalued='", f);
	bash_options(f, c->options, true);
	fprintf(f, "'\n\t\tstart=%d once=%d\n", second_word(c) ? 3 : 2, c->stop_at_first);
	if (c->positional == COMPLETE_IMAGE)
		fputs("\t\twords=$(smolvm complete-images 2>/dev/null) ;;\n", f);
	else
		fprintf(f, "\t\twords='%s' ;;\n", c->words ? c->words : "");
}

static void bash_print(FILE *f)
{
	const struct command *const *c;
	const struct group *g;

	fputs("# bash completion for smolvm; file names are bash's own default\n"
	      "_smolvm() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\tlocal options= valued= words= start=2 once=0 i\n"
	      "\tCOMPREPLY=()\n"
	      "\tif ((COMP_CWORD == 1)); then\n"
	      "\t\tCOMPREPLY=($(compgen -W '", f);
	each_first_word(f, bash_word);
	fputs("--help --version' -- \"$cur\"))\n\t\treturn\n\tfi\n"
	      "\tif ((COMP_CWORD == 2)); then\n\t\tcase ${COMP_WORDS[1]} in\n", f);
	for (g = groups; g->name; g++) {
		fprintf(f, "\t\t%s) words='", g->name);
		each_in_group(f, g, bash_word);
		fputs("' ;;\n", f);
	}
	fputs("\t\tesac\n\t\tif [[ $words ]]; then\n"
	      "\t\t\tCOMPREPLY=($(compgen -W \"$words --help\" -- "
	      "\"$cur\"))\n\t\t\treturn\n\t\tfi\n"
	      "\tfi\n\tcase \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n",
	      f);
	/* Names of one word match whatever follows, so groups come first. */
	for (c = commands; *c; c++)
		if (!(*c)->hidden && second_word(*c))
			bash_command(f, *c);
	for (c = commands; *c; c++)
		if (!(*c)->hidden && !second_word(*c))
			bash_command(f, *c);
	fputs("\tesac\n"
	      "\tfor ((i = start; once && i < COMP_CWORD; i++)); do\n"
	      "\t\tcase ${COMP_WORDS[i]} in\n"
	      "\t\t--) return ;;\n"
	      "\t\t-*) [[ \" $valued \" == *\" ${COMP_WORDS[i]} \"* ]] && ((i++)) ;;\n"
	      "\t\t*) return ;;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\t[[ \" $valued \" == *\" $prev \"* ]] && return\n"
	      "\t[[ $cur == -* ]] && words=$options\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "}\n"
	      "complete -o default -F _smolvm smolvm\n", f);
}

/* ---------------------------------------------------------------- zsh */

static void zsh_word(FILE *f, const char *group, const char *word, const char *summary)
{
	fprintf(f, " '%s:", word);
	quoted(f, summary, ":\\", "'\\''");
	putc('\'', f);
}

static const char *zsh_action(enum complete complete)
{
	static const char *const actions[] = {
		[COMPLETE_NONE] = " ", [COMPLETE_FILE] = "_files", [COMPLETE_DIR] = "_files -/",
		[COMPLETE_IMAGE] = "_smolvm_images", [COMPLETE_WORDS] = "",
	};

	return actions[complete];
}

static void zsh_value(FILE *f, enum complete complete, const char *words)
{
	if (complete == COMPLETE_WORDS)
		fprintf(f, "(%s)", words);
	else
		fputs(zsh_action(complete), f);
}

static void zsh_option(FILE *f, const struct option_spec *o)
{
	const char *star = o->repeats ? "*" : "";
	const char *end = !o->argument ? "" : option_takes_value(o) ? "=" : "=-";

	if (o->letter && !o->repeats)
		fprintf(f, " \\\n\t\t\t'(-%c --%s)'", o->letter, o->name);
	else
		fprintf(f, " \\\n\t\t\t'%s'", star);
	if (o->letter)
		fprintf(f, "{-%c%s,--%s%s}", o->letter, o->argument ? "+" : "", o->name, end);
	else
		fprintf(f, "--%s%s", o->name, end);
	fputs("'[", f);
	quoted(f, o->help, "[]\\:", "'\\''");
	putc(']', f);
	if (o->argument) {
		fputs(option_takes_value(o) ? ":" : "::", f);
		quoted(f, o->argument, "[]\\:=", "'\\''");
		putc(':', f);
		zsh_value(f, o->complete, o->words);
	}
	putc('\'', f);
}

static void zsh_command(FILE *f, const struct command *c)
{
	const struct option_spec *o;
	int words = second_word(c) ? 2 : 1;

	fprintf(f, "\t'%s'%s)\n\t\tshift %d words\n\t\t(( CURRENT -= %d ))\n"
		   "\t\t_arguments -s -S%s '(- *)'{-h,--help}'[print help and exit]'", c->name,
		words == 2 ? "" : "*", words, words, c->stop_at_first ? " -A '-*'" : "");
	for (o = c->options; o && o->name; o++)
		zsh_option(f, o);
	if (c->stop_at_first) {
		fputs(" \\\n\t\t\t'1:image:_smolvm_images' '*::command:_normal'", f);
	} else if (c->positional != COMPLETE_NONE) {
		fputs(" \\\n\t\t\t'*:argument:", f);
		zsh_value(f, c->positional, c->words);
		putc('\'', f);
	}
	fputs(" ;;\n", f);
}

static void zsh_print(FILE *f)
{
	const struct command *const *c;
	const struct group *g;

	fputs("#compdef smolvm\n"
	      "_smolvm_images() {\n"
	      "\tlocal -a names\n"
	      "\tnames=(${(f)\"$(smolvm complete-images 2>/dev/null)\"})\n"
	      "\tcompadd -a names\n"
	      "\t_files\n"
	      "}\n"
	      "_smolvm() {\n"
	      "\tlocal -a list\n"
	      "\tif (( CURRENT == 2 )); then\n\t\tlist=(", f);
	each_first_word(f, zsh_word);
	fputs(")\n\t\t_describe command list\n\t\treturn\n\tfi\n"
	      "\tif (( CURRENT == 3 )); then\n\t\tcase $words[2] in\n", f);
	for (g = groups; g->name; g++) {
		fprintf(f, "\t\t%s) list=(", g->name);
		each_in_group(f, g, zsh_word);
		fputs(")\n\t\t\t_describe command list\n\t\t\treturn ;;\n", f);
	}
	fputs("\t\tesac\n\tfi\n\tcase \"$words[2] $words[3]\" in\n", f);
	for (c = commands; *c; c++)
		if (!(*c)->hidden && second_word(*c))
			zsh_command(f, *c);
	for (c = commands; *c; c++)
		if (!(*c)->hidden && !second_word(*c))
			zsh_command(f, *c);
	fputs("\tesac\n}\n"
	      "if [[ $funcstack[1] == _smolvm ]]; then\n\t_smolvm \"$@\"\n"
	      "else\n\tcompdef _smolvm smolvm\nfi\n", f);
}

/* ---------------------------------------------------------------- fish */

static void fish_word(FILE *f, const char *group, const char *word, const char *summary)
{
	fprintf(f, "complete -c smolvm -n '__smolvm_only %s' -a %s -d '", group, word);
	quoted(f, summary, "\\", "\\'");
	fputs("'\n", f);
}

static void fish_option(FILE *f, const struct command *c, const struct option_spec *o)
{
	fprintf(f, "complete -c smolvm -n '__smolvm_is %s' -l %s", c->name, o->name);
	if (o->letter)
		fprintf(f, " -s %c", o->letter);
	if (option_takes_value(o))
		fputs(o->complete == COMPLETE_FILE || o->complete == COMPLETE_DIR ? " -r -F"
										  : " -x",
		      f);
	if (o->complete == COMPLETE_WORDS)
		fprintf(f, " -a '%s'", o->words);
	fputs(" -d '", f);
	quoted(f, o->help, "\\", "\\'");
	fputs("'\n", f);
}

static void fish_command(FILE *f, const struct command *c)
{
	const struct option_spec *o;

	for (o = c->options; o && o->name; o++)
		fish_option(f, c, o);
	fprintf(f, "complete -c smolvm -n '__smolvm_is %s' -l help -s h -d 'print help'\n",
		c->name);
	if (c->positional == COMPLETE_IMAGE)
		fprintf(f, "complete -c smolvm -n '__smolvm_is %s' -a '(smolvm complete-images "
			   "2>/dev/null)'\n", c->name);
	if (c->words)
		fprintf(f, "complete -c smolvm -n '__smolvm_only %s' -a '%s'\n", c->name, c->words);
	if (c->positional == COMPLETE_FILE || c->stop_at_first)
		fprintf(f, "complete -c smolvm -n '__smolvm_is %s' -F\n", c->name);
}

static void fish_print(FILE *f)
{
	const struct command *const *c;
	const struct group *g;

	fputs("# fish completion for smolvm\n"
	      "function __smolvm_is --description 'the command line begins with these words'\n"
	      "\tset -l words (commandline -opc)\n"
	      "\tset -e words[1]\n"
	      "\tfor word in $argv\n"
	      "\t\ttest \"$words[1]\" = \"$word\"; or return 1\n"
	      "\t\tset -e words[1]\n"
	      "\tend\n"
	      "end\n"
	      "function __smolvm_only --description 'the command line is these words so far'\n"
	      "\tset -l words (commandline -opc)\n"
	      "\tset -e words[1]\n"
	      "\ttest \"$words\" = \"$argv\"\n"
	      "end\n"
	      "complete -c smolvm -f\n", f);
	each_first_word(f, fish_word);
	for (g = groups; g->name; g++)
		each_in_group(f, g, fish_word);
	for (c = commands; *c; c++)
		if (!(*c)->hidden)
			fish_command(f, *c);
}

int completion_print(FILE *f, const char *shell)
{
	static const struct {
		const char *shell;
		void (*print)(FILE *f);
	} shells[] = { { "bash", bash_print }, { "zsh", zsh_print }, { "fish", fish_print } };
	size_t i;

	for (i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
		if (!strcmp(shells[i].shell, shell)) {
			shells[i].print(f);
			return 0;
		}
	}
	return -EINVAL;
}
