/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that moves a command's standard streams on the agent's behalf.
 */
#ifndef AGENT_PUMP_H
#define AGENT_PUMP_H

#include <sys/types.h>

#define PUMP_LANES 3 /* standard input, output, error */

/**
 * struct pump_lane - one direction. Both descriptors are non-blocking; -1: no such lane.
 * @from: bytes are read from it until its end or until @to is gone; then both are closed.
 * @to:   a socket, except for standard input. When its other side is shut down for writing, what
 *        can be read from @from at once is the last.
 */
struct pump_lane {
	int from, to;
};

/**
 * pump_start() - fork the process. It ends by itself when all lanes have; the descriptors stay
 * open in the caller.
 *
 * Return: its process id, or -errno.
 */
pid_t pump_start(const struct pump_lane lanes[PUMP_LANES]);

#endif
