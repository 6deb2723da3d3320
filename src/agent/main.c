/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: process 1 of every machine.
 *
 * It opens the channel to the host as early as it can and says hello; everything else is done on
 * request. When the channel is lost, the machine ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/ports.h"
#include "agent/share.h"
#include "proto/agent.h"

#define FILES_MAX 1048576

static struct agent agent; /* all zero: takes no room in the program */

void agent_say(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(2, line, (size_t)n) < 0)
		return;
}

static _Noreturn void give_up(const char *what, int error)
{
	agent_say("smolvm-agent: %s: %s", what, strerror(error));
	agent_power_off();
}

static void host_lost(const char *why)
{
	agent_say("smolvm-agent: %s", why);
	if (agent.carrier) /* ends the shared folders: nobody waits for them */
		carrier_end(agent.carrier, -ECONNRESET);
	agent_power_off();
}

static int on_incoming(void *ctx, struct stream *s, uint32_t port)
{
	static int (*const ports[])(struct agent *a, struct stream *s) = {
		[AGENT_PORT_CONTROL] = control_incoming,
		[AGENT_PORT_EXEC] = exec_incoming,
		[AGENT_PORT_ECHO] = echo_incoming,
		[AGENT_PORT_DISCARD] = discard_incoming,
	};

	if (port >= sizeof(ports) / sizeof(*ports) || !ports[port])
		return -ECONNREFUSED;
	return ports[port](ctx, s);
}

static const struct carrier_events carrier_events = { .incoming = on_incoming, .lost = host_lost };

/* The kernel hands on what its command line says and it does not understand. */
static int start_carrier(struct agent *a, struct smolvm_error *err)
{
	struct carrier c = { .events = &carrier_events, .ctx = a, .loop = a->loop };
	const char *kind = getenv(AGENT_CARRIER_VARIABLE);

	if (kind && !strcmp(kind, AGENT_CARRIER_VSOCK))
		return vsock_start(&c, &a->carrier, err);
	return channel_start(&c, &a->carrier, err);
}

/* A kernel without a console starts its first process without descriptors 0, 1 and 2. */
static void fill_descriptors(void)
{
	int fd;

	if (fcntl(2, F_GETFD) >= 0)
		return;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

int main(void)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct agent *a = &agent;
	int rc;

	a->dev_fd = a->rw_fd = -1;
	umask(022);
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL) < 0 && errno != EBUSY)
		give_up("mounting /dev", errno);
	fill_descriptors();
	a->loop = loop_create();
	if (!a->loop)
		give_up("starting", ENOMEM);
	if (start_carrier(a, &err) < 0)
		host_lost(err.message);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ FILES_MAX, FILES_MAX });
	rc = children_init(&a->children, a->loop);
	if (rc < 0)
		give_up("watching child processes", -rc);
	rc = loop_run(a->loop);
	give_up("waiting for events", -rc);
}
