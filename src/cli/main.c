/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smolvm command: finds what was asked for in the table of commands and runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/show.h"

/* A closed standard descriptor must not become some file of ours: reads and writes of it fail. */
static int open_standard_fds(void)
{
	int fd;

	for (fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
			return -1;
	return 0;
}

static bool is_help(const char *arg)
{
	return !strcmp(arg, "--help") || !strcmp(arg, "-h");
}

static int finish(void)
{
	return show_finish() < 0 ? EXIT_FAILED : 0;
}

/* "smolvm image", "smolvm image --help", "smolvm image --json". */
static int run_group(const struct group *g, const char *arg)
{
	if (!arg) {
		help_group(stderr, g);
		return EXIT_USAGE;
	}
	if (is_help(arg)) {
		help_group(stdout, g);
		return finish();
	}
	show_message("'smolvm %s' needs a command before %s; 'smolvm %s --help' lists them",
		     g->name, arg, g->name);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const struct command *c;
	const struct group *g;
	size_t words;

	if (open_standard_fds() < 0 || argc < 1)
		return EXIT_FAILED;
	setlocale(LC_CTYPE, "");
	/* A file that may not grow further (ulimit -f) is an error with a name, not an end. */
	sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	argv++;
	if (!argv[0]) {
		help_overview(stderr);
		return EXIT_USAGE;
	}
	if (is_help(argv[0])) {
		help_overview(stdout);
		return finish();
	}
	if (!strcmp(argv[0], "--version") || !strcmp(argv[0], "-V"))
		return command_run(&command_version, argv + 1);
	if (argv[0][0] == '-') {
		show_message("unknown option %s; options stand behind the command, 'smolvm help' "
			     "lists the commands", argv[0]);
		return EXIT_USAGE;
	}
	c = command_find(argv, &words);
	if (c)
		return command_run(c, argv + words);
	g = group_find(argv[0]);
	if (g && (!argv[1] || argv[1][0] == '-'))
		return run_group(g, argv[1]);
	command_unknown(argv);
	return EXIT_USAGE;
}
