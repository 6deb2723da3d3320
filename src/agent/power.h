/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of the machine.
 */
#ifndef AGENT_POWER_H
#define AGENT_POWER_H

#include "agent/agent.h"

/**
 * power_down() - end every process (asking first), flush and let go of the file systems.
 * @done: called once, after a bounded time; the machine is then to be switched off.
 *
 * Return: 0, or -EALREADY.
 */
int power_down(struct agent *a, void (*done)(void *ctx), void *ctx);

/** power_off_soon() - switch off after @ms, in which the host may still be told something. */
void power_off_soon(struct agent *a, int ms);

#endif
