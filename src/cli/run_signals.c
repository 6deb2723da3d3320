/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that smolvm gets while it runs a sandbox.
 *
 * Until the command runs, the first signal that asks to end cancels the import or the boot. While
 * it runs, signals are the command's; a second SIGINT or SIGTERM ends the machine at once instead.
 * A third one, at whatever time, ends this process, and with it the machine.
 */
#include "cli/run_signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/terminal.h"

static struct smolvm_control *_Atomic control_now;
static atomic_bool to_command;
static atomic_int ended_by;
static atomic_int asked; /* SIGINT and SIGTERM so far */
static atomic_int stop_number = SIGTERM;

static void end_run(struct smolvm_control *control, int signal)
{
	int none = 0;

	atomic_compare_exchange_strong(&ended_by, &none, signal);
	if (control)
		smolvm_control_cancel(control);
}

static void handle(int signal)
{
	struct smolvm_control *control = atomic_load(&control_now);
	bool asks = signal == SIGINT || signal == SIGTERM;
	bool for_command = atomic_load(&to_command);
	int saved_errno = errno, times = 0;

	if (asks)
		times = atomic_fetch_add(&asked, 1) + 1;
	if (times > 2) {
		terminal_restore();
		_exit(128 + signal);
	}
	if (for_command && times < 2 && control)
		smolvm_control_signal(control, signal == SIGTERM ? atomic_load(&stop_number) :
					       signal);
	else if (signal != SIGUSR1 && signal != SIGUSR2)
		end_run(control, signal);
	errno = saved_errno;
}

static void handle_resize(int signal)
{
	struct smolvm_control *control = atomic_load(&control_now);
	unsigned int rows, columns;
	int saved_errno = errno;

	if (signal == SIGCONT)
		terminal_raw_again();
	terminal_size(&rows, &columns);
	if (control && atomic_load(&to_command))
		smolvm_control_resize(control, rows, columns);
	errno = saved_errno;
}

void run_signals_begin(struct smolvm_control *control)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART }, old;
	size_t i;

	atomic_store(&control_now, control);
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		/* What is ignored, as with nohup, stays so. */
		if (sigaction(caught[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(caught[i], &action, NULL);
	}
	action.sa_handler = handle_resize;
	sigaction(SIGWINCH, &action, NULL);
	sigaction(SIGCONT, &action, NULL);
	/* A write to a pipe that nobody reads is an error to handle, not the end. */
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

/* Return: the signal's number, SIGTERM for what is not the name or number of one. */
static int signal_number(const char *name)
{
	const char *abbreviation;
	char number[16];
	int i;

	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (i = 1; i < 32; i++) {
		abbreviation = sigabbrev_np(i);
		snprintf(number, sizeof(number), "%d", i);
		if (!strcmp(name, number) || (abbreviation && !strcasecmp(name, abbreviation)))
			return i;
	}
	return SIGTERM;
}

void run_signals_to_command(const char *stop_signal)
{
	atomic_store(&stop_number, signal_number(stop_signal));
	atomic_store(&to_command, true);
}

int run_signals_ended(void)
{
	return atomic_load(&ended_by);
}

void run_signals_end(void)
{
	atomic_store(&to_command, false);
	atomic_store(&control_now, NULL);
}
