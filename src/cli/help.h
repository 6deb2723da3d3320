/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --help, the manual page and completion scripts, made from the tables of commands and options.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "cli/command.h"

/** help_command() - everything about one command. */
void help_command(FILE *f, const struct command *c);
/** help_group() - the commands of a group. */
void help_group(FILE *f, const struct group *g);
/** help_overview() - all commands. */
void help_overview(FILE *f);

/** help_each_paragraph() - call @print for each paragraph of a description. */
void help_each_paragraph(const char *text, void (*print)(FILE *f, const char *paragraph), FILE *f);

/** help_exit_statuses() - those of @c; the usual ones when it has none of its own, or is NULL. */
const struct exit_status *help_exit_statuses(const struct command *c);

/** man_page() - a page in mdoc for @c; NULL: for all of smolvm. */
void man_page(FILE *f, const struct command *c);

/** completion_print() - the script for "bash", "zsh" or "fish". Return: 0 or -EINVAL. */
int completion_print(FILE *f, const char *shell);

#endif
