/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2 §5.3), with several ports.
 *
 * The control queues tell each side of ports (§5.3.6.2). Per port, as Linux's driver has it:
 *
 *	driver				device
 *	DEVICE_READY		->
 *				<-	PORT_ADD	each port
 *	PORT_READY		->
 *				<-	CONSOLE_PORT (port 0), PORT_NAME, PORT_OPEN 1
 *	PORT_OPEN 1, or 0	->			when somebody has it open, or no more
 *				<-	PORT_OPEN 0	@in_fd is at its end
 *
 * Messages wait as bits of a port (@pending), for a buffer of the driver: there is never more than
 * one of a kind.
 *
 * Data is read straight into the driver's buffers, and written straight from them. Nothing is held
 * here: without buffers, or while nobody has the port open, nothing is read; what cannot be written
 * stays in the driver's buffer, and no other is taken. A descriptor is in the loop only while it is
 * waited for, because one that is hung up would always be ready.
 *
 * Loop and descriptors are the I/O thread's. activate() and reset() happen in vCPU threads and
 * leave them alone: a watch that fires for a device that is not active takes itself out.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "virtio/devices.h"

/* syscalls (io): readv writev */

#define QUEUE_SIZE 64

/* Bytes and buffers of one request; Linux gives pages, and writes 32 KiB, or as splice() has it. */
#define IN_REQUEST_BYTES  (1u << 20)
#define OUT_REQUEST_BYTES (16u << 20)
#define OUT_IOVS	  IOV_MAX
#define CONTROL_IOVS	  16u
#define CONTROL_BYTES	  (1u << 20)

/* One read fills as many requests at once, of as many buffers each. */
#define IN_REQUESTS	16u
#define IN_REQUEST_IOVS 64u
#define IN_IOVS		(IN_REQUEST_IOVS + 4 * IN_REQUESTS)

#define NAME_MAX_BYTES 63u

/* Then the I/O thread looks at other things. */
#define ROUND_REQUESTS 64u
#define ROUND_BYTES    (256u << 10)

#define F_MULTIPORT (1ull << 1)

enum event {
	EV_DEVICE_READY = 0,
	EV_PORT_ADD = 1,
	EV_PORT_READY = 3,
	EV_CONSOLE_PORT = 4,
	EV_PORT_OPEN = 6,
	EV_PORT_NAME = 7,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct console_config {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};

enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

/*
 * What the driver reads. @requests: popped and not yet filled, in order, their buffers in @iov.
 */
struct port_in {
	struct loop_watch watch;
	int fd;
	bool ended; /* nothing more will come */
	unsigned int n, n_iov;
	struct {
		uint16_t head;
		unsigned int n_iov;
		uint64_t bytes;
	} requests[IN_REQUESTS];
	struct iovec iov[IN_IOVS];
};

/* What the driver writes. @held: a request of which @left bytes, from @at on, are to be written. */
struct port_out {
	struct loop_watch watch;
	int fd;
	bool gone; /* nobody takes it: it is dropped */
	bool held;
	uint16_t head;
	uint64_t left;
	struct iovec *at;
	unsigned int n_iov;
	struct iovec iov[OUT_IOVS];
};

struct port {
	struct console *console;
	unsigned int id;
	char name[NAME_MAX_BYTES + 1];
	bool open;	      /* in the guest */
	unsigned int pending; /* events, bits */
	uint16_t open_value;
	struct port_in in;
	struct port_out out;
};

struct console {
	struct virtio_device base;
	struct console_config config;
	unsigned int n_ports;
	struct port ports[];
};

static struct console *to_console(struct virtio_device *d)
{
	return (struct console *)d;
}

static unsigned int in_queue(const struct port *p)
{
	return p->id ? 2 + 2 * p->id : 0;
}

static unsigned int out_queue(const struct port *p)
{
	return in_queue(p) + 1;
}

static bool is_open(const struct port *p)
{
	return virtio_has(&p->console->base, F_MULTIPORT) ? p->open : p->id == 0;
}

/* Wait for @w, or no more. In the I/O thread. */
static void watch(struct console *c, struct loop_watch *w, int fd, unsigned int events)
{
	struct loop *loop = c->base.env->loop;

	if (!loop)
		return;
	if (!events) {
		loop_remove(loop, w);
	} else if (w->fd < 0) {
		w->fd = fd;
		w->events = events;
		if (loop_add(loop, w) < 0)
			w->fd = -1;
	}
}

/* ---- control messages ---- */

static void tell(struct port *p, enum event event)
{
	p->pending |= 1u << event;
}

/* Write one message into one buffer. Return: its bytes; what the buffer does not hold is cut. */
static uint32_t put_control(const struct port *p, enum event event, const struct virtq_request *r)
{
	struct control m = { .id = htole32(p->id), .event = htole16((uint16_t)event) };
	size_t n;

	m.value = htole16(event == EV_PORT_OPEN ? p->open_value : 1);
	n = iov_write(r->iov, r->n_in, 0, &m, sizeof(m));
	if (event == EV_PORT_NAME)
		n += iov_write(r->iov, r->n_in, sizeof(m), p->name, strlen(p->name));
	return (uint32_t)n;
}

static bool send_control(struct console *c, struct port *p)
{
	/* In the order that a driver wants. */
	static const enum event order[] = {
		EV_PORT_ADD, EV_CONSOLE_PORT, EV_PORT_NAME, EV_PORT_OPEN
	};
	struct virtq *q = &c->base.queues[CONTROL_IN];
	struct iovec iov[CONTROL_IOVS];
	struct virtq_request r;

	for (unsigned int i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		if (!(p->pending & 1u << order[i]))
			continue;
		if (!virtio_pop(&c->base, q, &r, iov, CONTROL_IOVS, CONTROL_BYTES))
			return false;
		r.iov += r.n_out;
		virtq_push(q, r.head, put_control(p, order[i], &r));
		p->pending &= ~(1u << order[i]);
	}
	return true;
}

/* Send what waits, as far as the driver has buffers. */
static void flush_control(struct console *c)
{
	for (unsigned int i = 0; i < c->n_ports; i++)
		if (!send_control(c, &c->ports[i]))
			break;
	virtio_interrupt(&c->base, &c->base.queues[CONTROL_IN]);
}

static void serve_in(struct port *p);
static void stop_in(struct port *p);

static void port_ready(struct port *p)
{
	if (p->id == 0)
		tell(p, EV_CONSOLE_PORT);
	if (p->name[0])
		tell(p, EV_PORT_NAME);
	p->open_value = !p->in.ended;
	tell(p, EV_PORT_OPEN);
}

static void handle_control(struct console *c, const struct control *m)
{
	uint32_t id = le32toh(m->id);
	uint16_t event = le16toh(m->event), value = le16toh(m->value);
	struct port *p;

	if (event == EV_DEVICE_READY) {
		for (unsigned int i = 0; value == 1 && i < c->n_ports; i++)
			tell(&c->ports[i], EV_PORT_ADD);
		return;
	}
	if (id >= c->n_ports)
		return;
	p = &c->ports[id];
	if (event == EV_PORT_READY && value == 1) {
		port_ready(p);
	} else if (event == EV_PORT_OPEN) {
		p->open = value == 1;
		if (p->open)
			serve_in(p);
		else
			stop_in(p);
	}
}

static void serve_control(struct console *c)
{
	struct virtq *q = &c->base.queues[CONTROL_OUT];
	struct iovec iov[CONTROL_IOVS];
	struct virtq_request r;
	unsigned int n = 0;

	while (n < ROUND_REQUESTS &&
	       virtio_pop(&c->base, q, &r, iov, CONTROL_IOVS, CONTROL_BYTES)) {
		struct control m;

		n++;
		if (iov_read(r.iov, r.n_out, 0, &m, sizeof(m)) == sizeof(m))
			handle_control(c, &m);
		virtq_push(q, r.head, 0);
	}
	if (n == ROUND_REQUESTS)
		virtio_again(&c->base, CONTROL_OUT);
	virtio_interrupt(&c->base, q);
	flush_control(c);
}

/* ---- host to guest ---- */

static void stop_in(struct port *p)
{
	watch(p->console, &p->in.watch, -1, 0);
}

/* Have requests to read into. Return: whether there are any. */
static bool fill_in(struct port *p)
{
	struct virtio_device *d = &p->console->base;
	struct virtq *q = &d->queues[in_queue(p)];
	struct port_in *in = &p->in;
	struct virtq_request r;

	while (in->n < IN_REQUESTS && in->n_iov + IN_REQUEST_IOVS <= IN_IOVS &&
	       virtio_pop(d, q, &r, in->iov + in->n_iov, IN_REQUEST_IOVS, IN_REQUEST_BYTES)) {
		memmove(r.iov, r.iov + r.n_out, r.n_in * sizeof(*r.iov));
		in->requests[in->n].head = r.head;
		in->requests[in->n].n_iov = r.n_in;
		in->requests[in->n].bytes = r.in_bytes;
		in->n_iov += r.n_in;
		in->n++;
	}
	return in->n > 0;
}

/* @bytes have been read: give back the requests that hold them. */
static void give_in(struct port *p, uint64_t bytes)
{
	struct virtio_device *d = &p->console->base;
	struct virtq *q = &d->queues[in_queue(p)];
	struct port_in *in = &p->in;
	unsigned int n = 0, n_iov = 0;

	virtio_count(&d->env->counters->console_bytes, bytes);
	while (n < in->n && (bytes || !in->requests[n].bytes)) {
		uint64_t part = bytes < in->requests[n].bytes ? bytes : in->requests[n].bytes;

		virtq_push(q, in->requests[n].head, (uint32_t)part);
		bytes -= part;
		n_iov += in->requests[n++].n_iov;
	}
	in->n -= n;
	in->n_iov -= n_iov;
	memmove(in->requests, in->requests + n, in->n * sizeof(in->requests[0]));
	memmove(in->iov, in->iov + n_iov, in->n_iov * sizeof(in->iov[0]));
	virtio_interrupt(d, q);
}

static void end_in(struct port *p)
{
	p->in.ended = true;
	stop_in(p);
	p->open_value = 0;
	tell(p, EV_PORT_OPEN);
	flush_control(p->console);
}

/* Read once, if somebody wants it. Return: whether there may be more. */
static bool read_in(struct port *p)
{
	struct port_in *in = &p->in;
	ssize_t n;

	give_in(p, 0); /* those without room for a byte */
	if (in->fd < 0 || in->ended || !is_open(p) || !fill_in(p))
		return false;
	do {
		n = readv(in->fd, in->iov, (int)in->n_iov);
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		give_in(p, (uint64_t)n);
	else if (n == 0 && !in->n_iov)
		give_in(p, 0);
	else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
		end_in(p);
	return n > 0;
}

/* The driver has given buffers, or has opened the port. */
static void serve_in(struct port *p)
{
	struct port_in *in = &p->in;

	if (in->fd < 0 || in->ended || !is_open(p))
		return;
	if (fill_in(p))
		watch(p->console, &in->watch, in->fd, LOOP_READ);
	if (!p->console->base.env->loop)
		while (read_in(p))
			;
}

static void in_ready(struct loop_watch *w, unsigned int events)
{
	struct port *p = w->ctx;
	struct virtio_device *d = &p->console->base;

	(void)events;
	pthread_mutex_lock(&d->lock);
	if (d->active)
		read_in(p);
	if (!d->active || p->in.ended || !is_open(p) || !fill_in(p))
		stop_in(p);
	pthread_mutex_unlock(&d->lock);
}

/* ---- guest to host ---- */

static void finish_out(struct port *p)
{
	virtq_push(&p->console->base.queues[out_queue(p)], p->out.head, 0);
	p->out.held = false;
}

static void cut_out(struct port_out *out, uint64_t bytes)
{
	out->left -= bytes;
	while (out->n_iov && bytes >= out->at->iov_len) {
		bytes -= out->at->iov_len;
		out->at++;
		out->n_iov--;
	}
	if (bytes) {
		out->at->iov_base = (uint8_t *)out->at->iov_base + bytes;
		out->at->iov_len -= bytes;
	}
}

/* Write the held request. Return: whether it is over; if not, @fd takes no more now. */
static bool write_out(struct port *p)
{
	struct port_out *out = &p->out;

	while (out->left && !out->gone) {
		ssize_t n = writev(out->fd, out->at, (int)out->n_iov);

		if (n > 0) {
			virtio_count(&p->console->base.env->counters->console_bytes, (uint64_t)n);
			cut_out(out, (uint64_t)n);
		} else if (n == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
			return false;
		} else if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
			break; /* there may be room for the next one */
		} else if (errno != EINTR) {
			out->gone = true;
		}
	}
	return true;
}

static bool take_out(struct port *p)
{
	struct virtio_device *d = &p->console->base;
	struct port_out *out = &p->out;
	struct virtq_request r;

	if (!virtio_pop(d, &d->queues[out_queue(p)], &r, out->iov, OUT_IOVS, OUT_REQUEST_BYTES))
		return false;
	out->held = true;
	out->head = r.head;
	out->left = r.out_bytes;
	out->at = r.iov;
	out->n_iov = r.n_out;
	return true;
}

static void serve_out(struct port *p)
{
	struct virtio_device *d = &p->console->base;
	struct port_out *out = &p->out;
	bool full = false;
	unsigned int n = 0;
	uint64_t bytes = 0;

	while ((out->held || take_out(p)) && n < ROUND_REQUESTS && bytes < ROUND_BYTES) {
		uint64_t left = out->left;

		full = !write_out(p);
		if (full)
			break;
		bytes += left;
		n++;
		finish_out(p);
	}
	if (n)
		virtio_interrupt(d, &d->queues[out_queue(p)]);
	watch(p->console, &out->watch, out->fd, full ? LOOP_WRITE : 0);
	if (out->held && !full)
		virtio_again(d, out_queue(p));
}

static void out_ready(struct loop_watch *w, unsigned int events)
{
	struct port *p = w->ctx;
	struct virtio_device *d = &p->console->base;

	(void)events;
	pthread_mutex_lock(&d->lock);
	if (d->active)
		serve_out(p);
	else
		watch(p->console, w, -1, 0);
	pthread_mutex_unlock(&d->lock);
}

/* ---- the device ---- */

static void console_notify(struct virtio_device *d, unsigned int q)
{
	struct console *c = to_console(d);
	struct port *p = &c->ports[q < CONTROL_IN ? 0 : q / 2 - 1];

	if (q == CONTROL_IN)
		flush_control(c);
	else if (q == CONTROL_OUT)
		serve_control(c);
	else if (q % 2)
		serve_out(p);
	else
		serve_in(p);
}

static void console_reset(struct virtio_device *d)
{
	struct console *c = to_console(d);

	for (unsigned int i = 0; i < c->n_ports; i++) {
		struct port *p = &c->ports[i];

		p->open = false;
		p->pending = 0;
		p->in.n = p->in.n_iov = 0;
		p->out.held = false;
	}
}

static void console_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
				unsigned int len)
{
	const struct console_config *config = &to_console(d)->config;

	virtio_config_copy(config, sizeof(*config), offset, p, len);
}

static void console_destroy(struct virtio_device *d)
{
	struct console *c = to_console(d);

	for (unsigned int i = 0; i < c->n_ports; i++) {
		struct port *p = &c->ports[i];

		watch(c, &p->in.watch, -1, 0);
		watch(c, &p->out.watch, -1, 0);
		fd_close(&p->in.fd);
		fd_close(&p->out.fd);
	}
	virtio_fini(d);
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.queue_size = QUEUE_SIZE,
	.reset = console_reset,
	.notify = console_notify,
	.config_read = console_config_read,
	.destroy = console_destroy,
};

/* Ports must not share a descriptor: it would be closed twice, and can be watched once. */
static bool shared(const struct smolvm_vmm_port *a, const struct smolvm_vmm_port *b)
{
	return (a->in_fd >= 0 && (a->in_fd == b->in_fd || a->in_fd == b->out_fd)) ||
	       (a->out_fd >= 0 && (a->out_fd == b->in_fd || a->out_fd == b->out_fd));
}

static int check(const struct smolvm_vmm_console *config, struct smolvm_error *err)
{
	if (!config->n_ports || config->n_ports > SMOLVM_VMM_PORTS_MAX)
		return err_set(err, EINVAL, "a console has 1 to %d ports, not %zu",
			       SMOLVM_VMM_PORTS_MAX, config->n_ports);
	for (size_t i = 0; i < config->n_ports; i++) {
		const struct smolvm_vmm_port *p = &config->ports[i];

		if (p->name && strlen(p->name) > NAME_MAX_BYTES)
			return err_set(err, EINVAL, "a port's name has at most %u bytes: %s",
				       NAME_MAX_BYTES, p->name);
		if ((p->in_fd >= 0 && fcntl(p->in_fd, F_GETFL) < 0) ||
		    (p->out_fd >= 0 && fcntl(p->out_fd, F_GETFL) < 0))
			return err_sys(err, "port %zu", i);
		for (size_t k = 0; k < i; k++)
			if (shared(p, &config->ports[k]))
				return err_set(err, EINVAL, "ports %zu and %zu have one descriptor",
					       k, i);
	}
	return 0;
}

/* A descriptor that is both gets a second number: the loop knows one watch of a descriptor. */
static int init_port(struct console *c, unsigned int id, const struct smolvm_vmm_port *config,
		     struct smolvm_error *err)
{
	struct port *p = &c->ports[id];
	int r = 0;

	p->console = c;
	p->id = id;
	if (config->name)
		memcpy(p->name, config->name, strlen(config->name));
	p->in.fd = config->in_fd < 0 ? -1 : config->in_fd;
	p->out.fd = config->out_fd < 0 ? -1 : config->out_fd;
	p->out.gone = p->out.fd < 0;
	p->in.watch = (struct loop_watch){ .fd = -1, .ready = in_ready, .ctx = p };
	p->out.watch = (struct loop_watch){ .fd = -1, .ready = out_ready, .ctx = p };
	if (p->in.fd >= 0 && p->in.fd == p->out.fd) {
		p->out.fd = fcntl(p->in.fd, F_DUPFD_CLOEXEC, 0);
		if (p->out.fd < 0)
			return err_sys(err, "port %u", id);
	}
	if (p->in.fd >= 0)
		r = fd_set_nonblock(p->in.fd, 1);
	if (r == 0 && p->out.fd >= 0)
		r = fd_set_nonblock(p->out.fd, 1);
	return r < 0 ? err_set(err, -r, "port %u cannot be made non-blocking", id) : 0;
}

/* The caller's descriptors stay the caller's; the second numbers are ours. */
static void abandon(struct console *c, const struct smolvm_vmm_console *config)
{
	for (unsigned int i = 0; i < config->n_ports; i++)
		if (c->ports[i].console && c->ports[i].out.fd != config->ports[i].out_fd)
			fd_close(&c->ports[i].out.fd);
	free(c);
}

int console_create(struct virtio_device **ret, struct virtio_env *env,
		   const struct smolvm_vmm_console *config, struct smolvm_error *err)
{
	struct console *c;
	int r = check(config, err);

	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c) + config->n_ports * sizeof(c->ports[0]));
	if (!c)
		return err_nomem(err);
	c->n_ports = (unsigned int)config->n_ports;
	for (unsigned int i = 0; i < c->n_ports; i++) {
		r = init_port(c, i, &config->ports[i], err);
		if (r < 0) {
			abandon(c, config);
			return r;
		}
	}
	c->config.max_nr_ports = htole32(c->n_ports);
	virtio_init(&c->base, &console_ops, env, F_MULTIPORT, 2 + 2 * c->n_ports);
	*ret = &c->base;
	return 0;
}
