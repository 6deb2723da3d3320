/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that smolvm gets while it runs a sandbox.
 */
#ifndef CLI_RUN_SIGNALS_H
#define CLI_RUN_SIGNALS_H

#include <stdbool.h>

#include <smolvm/smolvm.h>

/** run_signals_begin() - catch them; @control is what they reach the machine by. Once. */
void run_signals_begin(struct smolvm_control *control);

/**
 * run_signals_to_command() - from now on they are the command's, until run_signals_end().
 * @stop_signal: the image's name of what SIGTERM is to arrive as ("SIGQUIT", "QUIT", "3"); "" or
 *               one that is not known: SIGTERM.
 */
void run_signals_to_command(const char *stop_signal);

/** run_signals_ended() - the signal that ended the run, 0 while none has. */
int run_signals_ended(void);

/** run_signals_end() - the control goes away: from now on they are only noted. */
void run_signals_end(void);

#endif
