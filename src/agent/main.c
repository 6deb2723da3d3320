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

static void channel_lost(const char *why)
{
	agent_say("smolvm-agent: %s", why);
	mux_destroy(agent.mux, -ECONNRESET); /* ends the shared folders: nobody waits for them */
	agent_power_off();
}

static void on_hello(void *ctx, uint32_t features)
{
	(void)ctx, (void)features;
}

static int on_incoming(void *ctx, struct mux_stream *s, uint32_t port)
{
	static int (*const ports[])(struct agent *a, struct mux_stream *s) = {
		[AGENT_PORT_CONTROL] = control_incoming,
		[AGENT_PORT_EXEC] = exec_incoming,
		[AGENT_PORT_ECHO] = echo_incoming,
		[AGENT_PORT_DISCARD] = discard_incoming,
	};

	if (port >= sizeof(ports) / sizeof(*ports) || !ports[port])
		return -ECONNREFUSED;
	return ports[port](ctx, s);
}

static const struct mux_events mux_events = { .hello = on_hello, .incoming = on_incoming };

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
	struct agent *a = &agent;
	int rc;

	a->dev_fd = a->rw_fd = -1;
	umask(022);
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL) < 0 && errno != EBUSY)
		give_up("mounting /dev", errno);
	fill_descriptors();
	a->loop = loop_create();
	a->mux = mux_create(MUX_GUEST, 0, &mux_events, a);
	if (!a->loop || !a->mux)
		give_up("starting", ENOMEM);
	a->channel.fd = channel_open();
	if (a->channel.fd < 0)
		give_up("opening the channel", -a->channel.fd);
	a->channel.loop = a->loop;
	a->channel.mux = a->mux;
	a->channel.lost = channel_lost;
	rc = channel_start(&a->channel);
	if (rc < 0)
		give_up("starting the channel", -rc);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ FILES_MAX, FILES_MAX });
	rc = children_init(&a->children, a->loop);
	if (rc < 0)
		give_up("watching child processes", -rc);
	rc = loop_run(a->loop);
	give_up("waiting for events", -rc);
}
