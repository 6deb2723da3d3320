/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's sockets and a driver by script (virtio_script.h). The device's own operation sends
 * packets with a header as it should be but for what the script says, gives receive buffers, and
 * plays the host: connects, writes, reads, ends and closes. Tables stay whole and within their
 * limits, and no descriptor is left over.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "virtio/vsock_priv.h"
#include "virtio_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENDS 48u
#define PACKETS 0xc000u  /* where packets are made, in the data */
#define RECEIVED 0x8000u /* and where they are received */

static int ends[ENDS]; /* the host's */
static unsigned int n_ends;

static int new_end(void)
{
	int fds[2], small = 4096;

	if (n_ends == ENDS ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -ECONNREFUSED;
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	ends[n_ends++] = fds[0];
	return fds[1];
}

static int incoming(void *ctx, uint32_t port)
{
	(void)ctx;
	return port & 1 ? new_end() : -ECONNREFUSED;
}

/* A request of one buffer at @gpa. */
static void add(struct vs *s, unsigned int q, uint64_t gpa, uint32_t len, uint16_t flags)
{
	uint8_t *base = s->ram + vs_queue_at(q);
	uint16_t head = s->desc[q]++ % VS_SIZE;
	uint16_t *avail = (uint16_t *)(void *)(base + 0x200);
	uint8_t *p = base + 16u * head;

	memcpy(p, &gpa, 8);
	memcpy(p + 8, &len, 4);
	memcpy(p + 12, &flags, 2);
	avail[2 + s->avail[q] % VS_SIZE] = head;
	__atomic_store_n(&avail[1], ++s->avail[q], __ATOMIC_RELEASE);
}

static void packet(struct vs *s)
{
	uint32_t bits = vs_take(s, 1), ports = vs_take(s, 1), extra = 0;
	uint32_t at = PACKETS + (s->avail[1] % VS_SIZE) * 0x100;
	struct vsock_hdr h = {
		.src_cid = 3,
		.dst_cid = 2,
		.src_port = ports & 7,
		.dst_port = ports >> 3 & 15,
		.type = 1,
		.op = bits & 7,
		.flags = bits >> 3 & 3,
		.buf_alloc = 1 << 16,
	};

	if (ports & 128) /* of a connection that the host has made */
		h.dst_port += 0x40000001;
	if (h.op == VSOCK_OP_RW)
		extra = h.len = vs_take(s, 2);
	if (bits & 32) {
		h.buf_alloc = vs_take(s, 2);
		h.fwd_cnt = vs_take(s, 2) - 32;
	}
	if (bits & 64) /* anything, anywhere */
		((uint8_t *)&h)[vs_take(s, 1) % sizeof(h)] ^= (uint8_t)vs_take(s, 1);
	memcpy(s->ram + VS_DATA + at, &h, sizeof(h));
	add(s, 1, VS_GPA + VS_DATA + at, (uint32_t)sizeof(h) + extra % 0x2000, 0);
	if (bits & 128)
		vs_write(s, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
	vs_turn(s);
}

static void host(struct vs *s)
{
	static uint8_t bytes[8192];
	uint32_t what = vs_take(s, 1), n = vs_take(s, 2) % sizeof(bytes);
	int *fd = n_ends ? &ends[(what >> 2) % n_ends] : NULL;

	if (!fd || *fd < 0)
		return;
	switch (what & 3) {
	case 0:
		(void)!write(*fd, bytes, n);
		break;
	case 1:
		(void)!read(*fd, bytes, n);
		break;
	case 2:
		shutdown(*fd, n % 3);
		break;
	case 3:
		fd_close(fd);
		break;
	}
	vs_turn(s);
}

/* What waits for an answer has waited long enough. */
static void time_passes(struct vsock *v)
{
	for (struct vsock_link *l = v->all.next; l != &v->all; l = l->next) {
		struct vsock_conn *c = link_entry(l, struct vsock_conn, all);

		if (c->deadline_ms)
			c->deadline_ms = 1;
	}
	if (v->d.env->loop)
		loop_cancel(v->d.env->loop, &v->timer);
	v->timer.fired(&v->timer);
}

static void own(struct vs *s)
{
	uint32_t what = vs_take(s, 1), n;
	int fd;

	switch (what & 7) {
	case 0:
	case 1:
	case 2:
		packet(s);
		break;
	case 3:
		for (n = vs_take(s, 1) % 8 + 1; n; n--)
			add(s, 0, VS_GPA + VS_DATA + RECEIVED + n * 0x400, 44 + (what >> 3) * 31,
			    2);
		vs_write(s, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		vs_turn(s);
		break;
	case 4:
		fd = new_end();
		if (fd >= 0)
			vsock_connect(s->device, what >> 3 & 7, fd, what & 64 ? "hello" : NULL,
				      NULL);
		vs_turn(s);
		break;
	case 5:
	case 6:
		host(s);
		break;
	case 7:
		time_passes((struct vsock *)s->device);
		break;
	}
}

static void check(struct vsock *v)
{
	unsigned int conns = 0, incomings = 0, deadlines = 0;

	for (struct vsock_link *l = v->all.next; l != &v->all; l = l->next) {
		struct vsock_conn *c = link_entry(l, struct vsock_conn, all);

		conns++;
		incomings += c->incoming;
		deadlines += c->deadline_ms != 0;
		assert(c->out.len <= c->buf_alloc + VSOCK_GREETING_MAX);
		assert(c->own <= VSOCK_GREETING_MAX && !(c->fd < 0 && c->watch.fd >= 0));
		assert(c->state != VSOCK_OPEN || c->fd >= 0);
		assert(c->state != VSOCK_RESET || c->fd < 0);
	}
	assert(conns == v->n_conns && conns <= VSOCK_CONNECTIONS_MAX);
	assert(incomings == v->n_incoming && deadlines == v->deadlines);
	assert(v->n_resets <= VSOCK_RESETS_MAX && v->n_slots <= VSOCK_SLOTS);
}

static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_device *d;
	int first = next_fd(), op;
	struct vs s;

	signal(SIGPIPE, SIG_IGN);
	n_ends = 0;
	vs_begin(&s, data, size, NULL);
	assert(vsock_create(&d, &s.env, &(struct smolvm_vmm_vsock){ 3, incoming, NULL }, NULL) ==
	       0);
	vs_attach(&s, d);
	while ((op = vs_step(&s)) >= 0) {
		if (op == 7)
			own(&s);
		check((struct vsock *)d);
	}
	vs_end(&s);
	while (n_ends)
		fd_close(&ends[--n_ends]);
	assert(next_fd() == first);
	return 0;
}
