/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of the guest joined with one socket of the host (virtio 1.2 §5.10.6).
 *
 * To the guest: the socket is read straight into the guest's buffers, behind the headers, as far
 * as its credit goes. What hinders that (no credit, no buffer) leaves @readable set, and the loop
 * is told to look away only when it reports the socket once more.
 * To the host: packets are sent straight from guest memory; what the socket does not take is kept
 * in @out, which the credit that the guest was given bounds.
 *
 * A direction is over when either side says so; once both are and @out is empty, the socket is
 * closed. Then the guest, if it has shut down both, gets the RST that ends the connection (it may
 * use the ports again after it), or else is told and has VSOCK_ANSWER_MS to do so.
 *
 * Packets without payload wait as bits in @pending, so that nothing is queued without bounds; a
 * connection that waits stands in the device's ring, and gets its turn when there are buffers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "virtio/vsock_priv.h"

/* syscalls (io): recvmsg recvfrom sendmsg shutdown */

#define BIT(op) (1u << (op))
/* What a closed connection's socket still held is read and dropped, as far as this. */
#define DISCARD_PIECE (16u << 10)
#define DISCARD_PIECES 64

static struct vsock_link *bucket_of(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	uint32_t h = (guest_port ^ host_port * 0x9e3779b1u) * 0x85ebca6bu;

	return &v->buckets[(h >> 16) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_link *head = bucket_of(v, guest_port, host_port);

	for (struct vsock_link *l = head->next; l != head; l = l->next) {
		struct vsock_conn *c = link_entry(l, struct vsock_conn, bucket);

		if (c->guest_port == guest_port && c->host_port == host_port &&
		    c->epoch == v->epoch)
			return c;
	}
	return NULL;
}

struct vsock_conn *vsock_conn_create(struct vsock *v, uint32_t guest_port, uint32_t host_port,
				     int fd, bool incoming)
{
	struct vsock_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->v = v;
	c->guest_port = guest_port;
	c->host_port = host_port;
	c->epoch = v->epoch;
	c->fd = fd;
	c->watch.fd = -1;
	c->incoming = incoming;
	c->buf_alloc =
		v->n_conns < VSOCK_BUFFER_MANY ? VSOCK_BUFFER_BYTES : VSOCK_BUFFER_BYTES_SMALL;
	buf_init(&c->out, c->buf_alloc + VSOCK_GREETING_MAX);
	link_init(&c->ring);
	link_append(&v->all, &c->all);
	link_append(bucket_of(v, guest_port, host_port), &c->bucket);
	v->n_conns++;
	v->n_incoming += incoming;
	return c;
}

static void close_socket(struct vsock_conn *c)
{
	if (c->v->d.env->loop)
		loop_remove(c->v->d.env->loop, &c->watch);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->readable = false;
	buf_fini(&c->out);
}

void vsock_conn_destroy(struct vsock_conn *c)
{
	struct vsock *v = c->v;

	close_socket(c);
	vsock_conn_deadline(c, false);
	link_remove(&c->all);
	link_remove(&c->ring);
	link_remove(&c->bucket);
	v->n_conns--;
	v->n_incoming -= c->incoming;
	free(c);
}

void vsock_conn_queue(struct vsock_conn *c)
{
	if (link_alone(&c->ring))
		link_append(&c->v->ring, &c->ring);
}

void vsock_conn_deadline(struct vsock_conn *c, bool on)
{
	if (on != (c->deadline_ms != 0))
		c->v->deadlines += on ? 1u : -1u;
	c->deadline_ms = on ? clock_ms() + VSOCK_ANSWER_MS : 0;
}

static void end_by_reset(struct vsock_conn *c)
{
	close_socket(c);
	vsock_conn_deadline(c, false);
	c->state = VSOCK_RESET;
	c->pending = BIT(VSOCK_OP_RST);
	vsock_conn_queue(c);
}

void vsock_conn_abort(struct vsock_conn *c)
{
	end_by_reset(c);
}

static void watch_events(struct vsock_conn *c, unsigned int on, unsigned int off)
{
	if (c->v->d.env->loop && c->watch.fd >= 0)
		loop_set(c->v->d.env->loop, &c->watch, (c->watch.events | on) & ~off);
}

static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t used = c->tx_cnt - c->peer_fwd_cnt;

	return used < c->peer_buf_alloc ? c->peer_buf_alloc - used : 0;
}

static bool may_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->readable && !(c->host_down & VSOCK_DOWN_SEND) &&
	       !(c->guest_down & VSOCK_DOWN_RCV);
}

/* Drop what the socket still holds: its peer would see ECONNRESET instead of the end otherwise. */
static void discard(struct vsock_conn *c)
{
	uint8_t piece[DISCARD_PIECE];

	if (c->host_down & VSOCK_DOWN_SEND)
		return;
	for (int i = 0; i < DISCARD_PIECES; i++)
		if (recv(c->fd, piece, sizeof(piece), MSG_DONTWAIT) <= 0)
			break;
}

/* After either side has ended a direction, or @out has become empty: what follows from it. */
static void settle(struct vsock_conn *c)
{
	bool to_guest_over = (c->host_down & VSOCK_DOWN_SEND) || (c->guest_down & VSOCK_DOWN_RCV);
	bool to_host_over = (c->host_down & VSOCK_DOWN_RCV) ||
			    ((c->guest_down & VSOCK_DOWN_SEND) && c->out.len == 0);

	if (c->state != VSOCK_OPEN)
		return;
	if (to_guest_over && to_host_over) {
		if (c->guest_down == VSOCK_DOWN_BOTH) {
			discard(c);
			end_by_reset(c);
			return;
		}
		close_socket(c);
		c->host_down = VSOCK_DOWN_BOTH;
		c->state = VSOCK_CLOSING;
		vsock_conn_deadline(c, true);
	}
	if (c->host_down & ~c->down_told)
		vsock_conn_queue(c);
}

/* ---- to the host ---- */

/* @bytes for the host have gone: the guest may send as many again, and is told of it now and then.
 */
static void forwarded(struct vsock_conn *c, size_t bytes)
{
	size_t own = bytes < c->own ? bytes : c->own;

	c->own -= own;
	c->fwd_cnt += (uint32_t)(bytes - own);
	if (c->fwd_cnt - c->told_fwd >= c->buf_alloc / 2 && c->state == VSOCK_OPEN &&
	    !(c->guest_down & VSOCK_DOWN_SEND)) {
		c->pending |= BIT(VSOCK_OP_CREDIT_UPDATE);
		vsock_conn_queue(c);
	}
}

/* Nobody takes bytes any more. */
static void host_gone(struct vsock_conn *c)
{
	c->host_down |= VSOCK_DOWN_RCV;
	forwarded(c, c->out.len);
	buf_fini(&c->out);
	watch_events(c, 0, LOOP_WRITE);
	settle(c);
}

static ssize_t send_pieces(struct vsock_conn *c, struct iovec *iov, unsigned int n)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t sent;

	do
		sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent < 0 && errno == EAGAIN ? 0 : sent;
}

/* Send @out. Return: false when that was the end of an orphan. */
static bool flush(struct vsock_conn *c)
{
	while (c->out.len) {
		struct iovec iov = { buf_peek(&c->out), c->out.len };
		ssize_t n = send_pieces(c, &iov, 1);

		if (n == 0)
			return true;
		if (n < 0) {
			host_gone(c);
			break;
		}
		buf_drop(&c->out, (size_t)n);
		forwarded(c, (size_t)n);
	}
	if (c->state == VSOCK_ORPHAN) {
		vsock_conn_destroy(c);
		return false;
	}
	if (c->state != VSOCK_OPEN)
		return true;
	buf_fini(&c->out);
	watch_events(c, 0, LOOP_WRITE);
	if ((c->guest_down & VSOCK_DOWN_SEND) && !(c->host_down & VSOCK_DOWN_RCV))
		shutdown(c->fd, SHUT_WR);
	settle(c);
	return true;
}

/* @bytes in @iov are for the host: they are sent, kept or, when nobody takes them, dropped. */
static void to_host(struct vsock_conn *c, struct iovec *iov, unsigned int n, size_t bytes)
{
	ssize_t sent = 0;

	if ((c->host_down & VSOCK_DOWN_RCV) || bytes == 0) {
		forwarded(c, bytes);
		return;
	}
	if (c->out.len == 0)
		sent = send_pieces(c, iov, n);
	if (sent < 0) {
		forwarded(c, bytes);
		host_gone(c);
		return;
	}
	forwarded(c, (size_t)sent);
	if ((size_t)sent == bytes)
		return;
	for (unsigned int i = 0; i < n; i++) {
		size_t skip = (size_t)sent < iov[i].iov_len ? (size_t)sent : iov[i].iov_len;

		sent -= (ssize_t)skip;
		if (buf_add(&c->out, (uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip)) {
			vsock_conn_abort(c);
			return;
		}
	}
	watch_events(c, LOOP_WRITE, 0);
}

/* ---- to the guest ---- */

void vsock_conn_control(struct vsock_conn *c, enum vsock_op op, uint32_t flags)
{
	struct vsock_hdr hdr = {
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
	};

	c->pending &= ~(BIT(op) | BIT(VSOCK_OP_CREDIT_UPDATE));
	c->told_fwd = c->fwd_cnt;
	vsock_put(c->v, &hdr);
}

/* The room for payload in slot @i, if @most is wanted. */
static size_t slot_room(struct vsock *v, unsigned int i, size_t most)
{
	uint64_t room = vsock_slot(v, i)->req.in_bytes - VSOCK_HDR_BYTES;

	room = room < VSOCK_PAYLOAD_MAX ? room : VSOCK_PAYLOAD_MAX;
	return room < most ? (size_t)room : most;
}

/* Read from the socket into slots, up to @want bytes. Return: as recvmsg(); *@ret_asked: room. */
static ssize_t fill_slots(struct vsock_conn *c, size_t want, size_t *ret_asked)
{
	struct vsock *v = c->v;
	unsigned int slots = vsock_slots_most(v), n = 0;
	struct msghdr m = { .msg_iov = v->pieces };
	size_t total = 0;
	ssize_t got;

	for (unsigned int i = 0; i < slots && total < want; i++) {
		const struct virtq_request *r = &vsock_slot(v, i)->req;
		size_t room = slot_room(v, i, want - total);

		if (n + r->n_in > VSOCK_PIECES_MAX)
			break;
		n += vsock_slice(r->iov + r->n_out, r->n_in, VSOCK_HDR_BYTES, room, v->pieces + n,
				 VSOCK_PIECES_MAX - n);
		total += room;
	}
	*ret_asked = total;
	if (!n) { /* the queue has just turned out to be broken */
		errno = EAGAIN;
		return -1;
	}
	m.msg_iovlen = n;
	do
		got = recvmsg(c->fd, &m, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got;
}

/* @left bytes lie in the slots: make packets of them. */
static void hand_out(struct vsock_conn *c, size_t left)
{
	struct vsock_hdr hdr = {
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RW,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
	};

	c->tx_cnt += (uint32_t)left;
	c->told_fwd = c->fwd_cnt;
	c->pending &= ~BIT(VSOCK_OP_CREDIT_UPDATE);
	while (left) {
		hdr.len = (uint32_t)slot_room(c->v, 0, left);
		left -= hdr.len;
		vsock_put(c->v, &hdr);
	}
}

static void read_socket(struct vsock_conn *c)
{
	size_t want = credit(c), asked = 0;
	ssize_t got;

	if (want == 0) {
		if (!c->asked)
			c->pending |= BIT(VSOCK_OP_CREDIT_REQUEST);
		c->asked = true;
		return;
	}
	got = fill_slots(c, want < VSOCK_PAYLOAD_MAX ? want : VSOCK_PAYLOAD_MAX, &asked);
	if (got < 0 && errno != EAGAIN) {
		vsock_conn_abort(c);
		return;
	}
	if (got > 0)
		hand_out(c, (size_t)got);
	if (got == 0 || (got < 0 && c->hup)) {
		c->readable = false;
		c->host_down |= VSOCK_DOWN_SEND;
		watch_events(c, 0, LOOP_READ);
		if (c->hup)
			host_gone(c);
		else
			settle(c);
	} else if ((size_t)got != asked && !c->hup) {
		c->readable = false;
		watch_events(c, LOOP_READ, 0);
	}
}

void vsock_conn_turn(struct vsock_conn *c)
{
	static const enum vsock_op first[] = { VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE };
	static const enum vsock_op later[] = { VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST };
	struct vsock *v = c->v;

	if (c->pending & BIT(VSOCK_OP_RST)) {
		vsock_conn_control(c, VSOCK_OP_RST, 0);
		vsock_conn_destroy(c);
		return;
	}
	for (unsigned int i = 0; i < 2; i++)
		if ((c->pending & BIT(first[i])) && vsock_slots(v))
			vsock_conn_control(c, first[i], 0);
	if (may_read(c) && vsock_slots(v))
		read_socket(c);
	if (c->state == VSOCK_RESET)
		return;
	for (unsigned int i = 0; i < 2; i++)
		if ((c->pending & BIT(later[i])) && vsock_slots(v))
			vsock_conn_control(c, later[i], 0);
	if ((c->host_down & ~c->down_told) && vsock_slots(v)) {
		c->down_told = c->host_down;
		vsock_conn_control(c, VSOCK_OP_SHUTDOWN, c->host_down);
	}
	if (c->pending || (c->host_down & ~c->down_told) ||
	    (may_read(c) && (credit(c) || !c->asked)))
		vsock_conn_queue(c);
}

/* ---- events of the socket ---- */

static void socket_hup(struct vsock_conn *c)
{
	loop_remove(c->v->d.env->loop, &c->watch);
	c->hup = true;
	if (c->state == VSOCK_ORPHAN) {
		vsock_conn_destroy(c);
	} else if ((c->host_down & VSOCK_DOWN_SEND) || (c->guest_down & VSOCK_DOWN_RCV)) {
		host_gone(c);
	} else {
		c->readable = true;
		vsock_conn_queue(c);
	}
}

static void socket_ready(struct loop_watch *w, unsigned int events)
{
	struct vsock_conn *c = w->ctx;
	struct vsock *v = c->v;

	pthread_mutex_lock(&v->d.lock);
	if (v->stale) {
		vsock_sweep_stale(v);
	} else if (!(events & LOOP_WRITE) || flush(c)) {
		if ((events & LOOP_READ) && c->fd >= 0) {
			/* Reported a second time: it has to wait. */
			if (c->readable)
				watch_events(c, 0, LOOP_READ);
			c->readable = true;
			if (may_read(c))
				vsock_conn_queue(c);
		}
		if ((events & LOOP_HANGUP) && c->fd >= 0)
			socket_hup(c);
	}
	vsock_work(v);
	pthread_mutex_unlock(&v->d.lock);
}

void vsock_conn_open(struct vsock_conn *c)
{
	c->state = VSOCK_OPEN;
	if (!c->v->d.env->loop)
		return;
	c->watch = (struct loop_watch){
		.fd = c->fd, .events = LOOP_READ, .ready = socket_ready, .ctx = c
	};
	if (loop_add(c->v->d.env->loop, &c->watch) < 0) {
		c->watch.fd = -1;
		vsock_conn_abort(c);
	}
}

/* ---- packets of the guest ---- */

static void accepted(struct vsock_conn *c)
{
	struct iovec iov = { c->greeting, strlen(c->greeting) };

	vsock_conn_deadline(c, false);
	vsock_conn_open(c);
	c->own = iov.iov_len;
	if (c->state == VSOCK_OPEN && iov.iov_len)
		to_host(c, &iov, 1, iov.iov_len);
}

static void got_data(struct vsock_conn *c, const struct vsock_hdr *hdr, struct iovec *iov,
		     unsigned int n)
{
	c->rx_cnt += hdr->len;
	if (c->rx_cnt - c->told_fwd > c->buf_alloc || (c->guest_down & VSOCK_DOWN_SEND)) {
		vsock_conn_abort(c); /* more than it was allowed */
		return;
	}
	to_host(c, iov, n, hdr->len);
}

static void got_shutdown(struct vsock_conn *c, uint32_t flags)
{
	uint8_t news = (uint8_t)(flags & VSOCK_DOWN_BOTH & ~(uint32_t)c->guest_down);
	int how = -1;

	c->guest_down |= news;
	if (c->state == VSOCK_CLOSING && c->guest_down == VSOCK_DOWN_BOTH)
		end_by_reset(c);
	if (c->state != VSOCK_OPEN)
		return;
	if (news & VSOCK_DOWN_RCV) {
		how = SHUT_RD;
		c->readable = false;
		watch_events(c, 0, LOOP_READ);
	}
	if ((news & VSOCK_DOWN_SEND) && c->out.len == 0)
		how = how == SHUT_RD ? SHUT_RDWR : SHUT_WR;
	if (how >= 0)
		shutdown(c->fd, how);
	settle(c);
}

static void got_reset(struct vsock_conn *c)
{
	if (c->state != VSOCK_OPEN || c->guest_down != VSOCK_DOWN_BOTH || c->out.len == 0) {
		vsock_conn_destroy(c);
		return;
	}
	/* It had ended in order, and did not wait for the host to take everything. */
	c->state = VSOCK_ORPHAN;
	c->pending = 0;
	link_remove(&c->bucket);
	link_remove(&c->ring);
}

static void got_open(struct vsock_conn *c, const struct vsock_hdr *hdr, struct iovec *iov,
		     unsigned int n)
{
	switch (hdr->op) {
	case VSOCK_OP_RW:
		got_data(c, hdr, iov, n);
		break;
	case VSOCK_OP_SHUTDOWN:
		got_shutdown(c, hdr->flags);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		c->pending |= BIT(VSOCK_OP_CREDIT_UPDATE);
		vsock_conn_queue(c);
		break;
	default:
		vsock_conn_abort(c);
	}
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *hdr, struct iovec *iov,
		       unsigned int n)
{
	if (hdr->op == VSOCK_OP_RST) {
		got_reset(c);
		return;
	}
	c->peer_buf_alloc = hdr->buf_alloc;
	c->peer_fwd_cnt = hdr->fwd_cnt;
	if (c->state == VSOCK_CONNECTING) {
		if (hdr->op == VSOCK_OP_RESPONSE && !(c->pending & BIT(VSOCK_OP_REQUEST)))
			accepted(c);
		else
			vsock_conn_abort(c);
	} else if (c->state == VSOCK_OPEN) {
		got_open(c, hdr, iov, n);
	} else if (hdr->op == VSOCK_OP_SHUTDOWN) {
		got_shutdown(c, hdr->flags);
	}
	if (c->readable && credit(c)) {
		c->asked = false;
		if (may_read(c))
			vsock_conn_queue(c);
	}
}
