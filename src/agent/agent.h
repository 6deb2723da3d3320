/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's one object: what its parts share. The agent is a single-threaded process with one
 * event loop that must never block on a shared folder, since it carries the folder's answers
 * itself: whatever may touch one happens in a child process.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>

#include "agent/carrier.h"
#include "agent/children.h"
#include "base/loop.h"

/**
 * enum setup_state - how far the machine has been set up.
 */
enum setup_state { SETUP_NONE, SETUP_RUNNING, SETUP_DONE, SETUP_FAILED };

/**
 * struct agent - the agent.
 * @setup:   commands run once it is SETUP_DONE.
 * @dev_fd:  /dev of the machine, O_PATH; -1 before the set-up.
 * @rw_fd:   the file system that takes the root's writes, O_PATH; -1 without one on a disk.
 * @shared:  there are shared folders whose answers the agent carries.
 * @n_execs: commands whose state is held.
 */
struct agent {
	struct loop *loop;
	struct carrier *carrier;
	struct children children;
	enum setup_state setup;
	int dev_fd, rw_fd;
	bool shared;
	unsigned int n_execs;
};

/** agent_say() - one line on the console, for what nobody can be told any other way. */
void agent_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** agent_power_off() - flush, for a bounded time, and end the machine. */
_Noreturn void agent_power_off(void);

#endif
