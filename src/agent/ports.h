/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent does with a stream that the host opens; one function per port.
 *
 * Each accepts the stream and returns 0, or refuses it with a negative errno.
 */
#ifndef AGENT_PORTS_H
#define AGENT_PORTS_H

#include "agent/agent.h"

/** control_incoming() - AGENT_PORT_CONTROL: one request, one answer. */
int control_incoming(struct agent *a, struct stream *s);

/** exec_incoming() - AGENT_PORT_EXEC: one command. */
int exec_incoming(struct agent *a, struct stream *s);

/** echo_incoming() - AGENT_PORT_ECHO: every byte comes back. */
int echo_incoming(struct agent *a, struct stream *s);

/** discard_incoming() - AGENT_PORT_DISCARD: takes bytes until the end. */
int discard_incoming(struct agent *a, struct stream *s);

#endif
