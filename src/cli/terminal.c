/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw mode and size of the person's terminal, which is standard input.
 *
 * The settings are kept in globals because signal handlers must be able to put them back. Whoever
 * leaves without exit() -- a handler -- calls terminal_restore() first.
 */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"

static struct termios saved, raw;
static atomic_bool is_raw;

/* tcsetattr() from a background process would stop us; there is nothing to restore there. */
static bool in_foreground(void)
{
	return tcgetpgrp(0) == getpgrp();
}

void terminal_restore(void)
{
	int saved_errno = errno;

	if (atomic_exchange(&is_raw, false) && in_foreground())
		(void)tcsetattr(0, TCSADRAIN, &saved);
	errno = saved_errno;
}

static void restore_and_die(int signal)
{
	/* SA_RESETHAND: the second time it has its usual effect. */
	terminal_restore();
	raise(signal);
}

int terminal_raw(struct smolvm_error *err)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	struct sigaction action = { .sa_handler = restore_and_die, .sa_flags = (int)SA_RESETHAND };
	size_t i;

	if (tcgetattr(0, &saved) < 0)
		return err_sys(err, "cannot read the terminal's settings");
	raw = saved;
	cfmakeraw(&raw);
	for (i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		sigaction(fatal[i], &action, NULL);
	atexit(terminal_restore);
	if (tcsetattr(0, TCSADRAIN, &raw) < 0)
		return err_sys(err, "cannot change the terminal's settings");
	atomic_store(&is_raw, true);
	return 0;
}

void terminal_raw_again(void)
{
	int saved_errno = errno;

	if (atomic_load(&is_raw) && in_foreground())
		(void)tcsetattr(0, TCSADRAIN, &raw);
	errno = saved_errno;
}

void terminal_size(unsigned int *ret_rows, unsigned int *ret_columns)
{
	int saved_errno = errno;
	struct winsize size;

	*ret_rows = 24;
	*ret_columns = 80;
	if (ioctl(0, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col) {
		*ret_rows = size.ws_row;
		*ret_columns = size.ws_col;
	}
	errno = saved_errno;
}
