/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process between fork and exec.
 */
#ifndef AGENT_COMMAND_CHILD_H
#define AGENT_COMMAND_CHILD_H

#include "agent/command.h"

/**
 * command_child() - in a forked child: become the command.
 * @stdio:  its standard input, output and error; with a terminal only the first counts.
 * @status: where a failure is reported (struct smolvm_error).
 */
_Noreturn void command_child(const struct command *c, const int stdio[3], int status);

/**
 * command_environment() - @given, and PATH, HOME and TERM where they are missing. Pure.
 *
 * Return: a NULL-terminated array (the strings are not copied), or NULL without memory.
 */
char **command_environment(const struct strings *given, const char *home, bool tty);

#endif
