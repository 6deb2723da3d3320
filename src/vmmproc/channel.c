/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte channel to the agent: mux on one side, the hypervisor's socket on the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmmproc/vmm.h"

static void on_hello(void *ctx, uint32_t features)
{
	vmmproc_greeted(ctx);
}

static int on_incoming(void *ctx, struct stream *s, uint32_t port)
{
	int fd = carrier_incoming(ctx, port);

	return fd < 0 ? fd : join_accept(ctx, s, fd);
}

static const struct mux_events mux_events = { .hello = on_hello, .incoming = on_incoming };

/* Return: whether all that was pending has been written. */
static bool write_out(struct vmm *v)
{
	while (v->channel_out.len) {
		ssize_t n = write(v->vm.channel_fd, buf_peek(&v->channel_out), v->channel_out.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* a hypervisor that is gone is noticed by its end_fd */
			return false;
		buf_drop(&v->channel_out, (size_t)n);
	}
	return true;
}

void channel_flush(struct vmm *v)
{
	unsigned int events;

	if (!v->mux)
		return;
	while (!v->ending && write_out(v) && mux_output_pending(v->mux)) {
		uint8_t *p = buf_reserve(&v->channel_out, CHANNEL_BUFFER);
		size_t n = p ? mux_output(v->mux, p, CHANNEL_BUFFER) : 0;

		if (!n)
			break;
		buf_commit(&v->channel_out, n);
	}
	events = LOOP_READ | (v->channel_out.len ? LOOP_WRITE : 0);
	loop_set(v->loop, &v->channel_watch, events);
}

static void on_channel(struct loop_watch *w, unsigned int events)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct vmm *v = w->ctx;

	if (events & LOOP_READ) {
		ssize_t n = read(w->fd, v->channel_in, CHANNEL_BUFFER);

		if (n > 0 && mux_input(v->mux, v->channel_in, (size_t)n, &err) < 0) {
			vmmproc_end(v, err.code, "the guest: %s", err.message);
			return;
		}
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			loop_remove(v->loop, w); /* end_fd tells why */
	} else if (events & LOOP_HANGUP) {
		loop_remove(v->loop, w);
	}
	channel_flush(v);
}

int channel_start(struct vmm *v)
{
	v->mux = mux_create(MUX_HOST, 0, &mux_events, v);
	v->channel_in = malloc(CHANNEL_BUFFER);
	if (!v->mux || !v->channel_in)
		return -ENOMEM;
	buf_init(&v->channel_out, CHANNEL_BUFFER);
	v->channel_watch = (struct loop_watch){ v->vm.channel_fd, LOOP_READ, on_channel, v };
	return loop_add(v->loop, &v->channel_watch);
}
