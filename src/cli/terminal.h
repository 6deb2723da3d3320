/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The person's terminal while a command of the guest runs on it.
 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>

#include <smolvm/error.h>

/**
 * terminal_raw() - hand every key to the guest. The terminal gets its old settings back with
 * terminal_restore(), with exit(), and when a signal such as SIGSEGV ends this process.
 *
 * Return: 0 or -errno.
 */
int terminal_raw(struct smolvm_error *err);

/** terminal_raw_again() - after the process was stopped and goes on. Async-signal-safe. */
void terminal_raw_again(void);

/** terminal_restore() - as it was before terminal_raw(). Async-signal-safe; any number of times. */
void terminal_restore(void);

/**
 * terminal_size() - of the terminal that is standard input; 24 x 80 when it does not say.
 * Async-signal-safe.
 */
void terminal_size(unsigned int *ret_rows, unsigned int *ret_columns);

#endif
