/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command: its description, and the process that becomes it.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

#define COMMAND_STRINGS_MAX 131072u /* arguments, and variables, each */

/**
 * struct strings - a NULL-terminated array of strings.
 */
struct strings {
	char **v;
	size_t n, cap;
};

/**
 * struct command - what to run.
 * @env: as given; the process fills in what is missing.
 */
struct command {
	struct strings args, env;
	char *cwd, *user;
	bool tty, no_stdin, detach;
	uint16_t rows, columns;
};

/**
 * command_parse() - read the TLVs of EXEC_REQUEST; *@c is zeroed first. Pure.
 *
 * Return: 0, -EINVAL, -E2BIG, -EBADMSG, -ENOMEM. command_fini() it in each case.
 */
int command_parse(struct command *c, const uint8_t *body, size_t len, struct smolvm_error *err);
void command_fini(struct command *c);

/**
 * struct command_io - the agent's ends of a running command; -1 where there is none.
 * @status: a pipe that ends when the command has been executed, or says why not: one struct
 *          smolvm_error.
 * @in, @out, @err: its standard streams; with a terminal @in and @out are both its other side.
 * @pumped: they are sockets, with a process of pump.h behind them.
 *
 * All are non-blocking and close-on-exec.
 */
struct command_io {
	int status, in, out, err;
	bool pumped;
};

/**
 * command_start() - start the process; whether the command could be executed is told later.
 * @dev_fd: the machine's /dev.
 * @pumped: there are shared folders: the agent must not touch the command's pipes itself.
 *
 * Return: its process id, which is that of its session and process group too, or -errno.
 */
pid_t command_start(const struct command *c, int dev_fd, bool pumped, struct command_io *ret,
		    struct smolvm_error *err);

#endif
