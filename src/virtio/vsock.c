/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.2 §5.10): the guest's stream sockets, joined with sockets of the host.
 *
 * Packets of the guest are taken one by one, checked, and given to their connection (vsock_conn.c).
 * Packets for the guest are made when there are buffers of the receive queue to hold them (slots):
 * connections that have something stand in a ring and get a turn each, and refusals (RST for what
 * no connection knows) wait in a short list. While that list is full nothing more is taken from
 * the transmit queue, so that a guest which gives no buffers makes nothing grow.
 *
 * Sockets, the loop and the queues belong to the I/O thread. Two things happen elsewhere:
 * vsock_connect() makes its connection and may fill one slot itself; a reset, in a vCPU's thread,
 * raises @epoch, after which the I/O thread closes the connections of before (@stale).
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "virtio/vsock_priv.h"

enum {
	RX,
	TX,
	EVENTS, /* never written to: nothing happens that it could tell */
	QUEUES,
};

#define HOST_PORTS 0x40000000u /* connections of the host come from here on */
/* Packets and turns in one go; then others on the loop have theirs. */
#define WORK_MAX 256u

/* ---- buffers of the guest ---- */

unsigned int vsock_slots_most(struct vsock *v)
{
	struct virtq *q = &v->d.queues[RX];

	while (v->n_slots < VSOCK_SLOTS) {
		struct vsock_slot *s = vsock_slot(v, v->n_slots);

		if (!virtio_pop(&v->d, q, &s->req, s->iov, VSOCK_QUEUE_SIZE, VSOCK_RX_BUFFER_MAX))
			break;
		if (s->req.n_out || s->req.in_bytes <= VSOCK_HDR_BYTES) {
			virtio_fail(&v->d);
			break;
		}
		v->n_slots++;
	}
	if (!q->ready || q->broken)
		v->n_slots = 0;
	return v->n_slots;
}

void vsock_put(struct vsock *v, const struct vsock_hdr *hdr)
{
	struct vsock_slot *s = vsock_slot(v, 0);
	struct vsock_hdr le = {
		.src_cid = htole64(VSOCK_CID_HOST),
		.dst_cid = htole64(v->config.cid),
		.src_port = htole32(hdr->src_port),
		.dst_port = htole32(hdr->dst_port),
		.len = htole32(hdr->len),
		.type = htole16(hdr->type),
		.op = htole16(hdr->op),
		.flags = htole32(hdr->flags),
		.buf_alloc = htole32(hdr->buf_alloc),
		.fwd_cnt = htole32(hdr->fwd_cnt),
	};

	iov_write(s->req.iov, s->req.n_in, 0, &le, sizeof(le));
	virtq_push(&v->d.queues[RX], s->req.head, VSOCK_HDR_BYTES + hdr->len);
	v->first_slot = (v->first_slot + 1) % VSOCK_SLOTS;
	v->n_slots--;
	v->rx_pushed = true;
	virtio_count(&v->d.env->counters->vsock_packets, 1);
	virtio_count(&v->d.env->counters->vsock_bytes, hdr->len);
}

unsigned int vsock_slice(const struct iovec *iov, unsigned int n, size_t offset, size_t bytes,
			 struct iovec *to, unsigned int cap)
{
	unsigned int made = 0;

	for (unsigned int i = 0; i < n && bytes && made < cap; i++) {
		size_t len = iov[i].iov_len;

		if (offset >= len) {
			offset -= len;
			continue;
		}
		len = len - offset < bytes ? len - offset : bytes;
		to[made++] = (struct iovec){ (uint8_t *)iov[i].iov_base + offset, len };
		bytes -= len;
		offset = 0;
	}
	return made;
}

/* ---- packets of the guest ---- */

static void refuse(struct vsock *v, const struct vsock_hdr *hdr)
{
	if (hdr->op != VSOCK_OP_RST && v->n_resets < VSOCK_RESETS_MAX)
		v->resets[v->n_resets++] = (struct vsock_refusal){
			.guest_port = hdr->src_port,
			.host_port = hdr->dst_port,
			.type = hdr->type,
		};
}

/* The guest connects. The owner is asked without the lock: what it does is not known here. */
static void request(struct vsock *v, const struct vsock_hdr *hdr)
{
	struct vsock_conn *c = NULL;
	uint32_t epoch = v->epoch;
	int fd = -ECONNREFUSED;

	if (v->config.incoming && v->n_incoming < VSOCK_INCOMING_MAX &&
	    v->n_conns < VSOCK_CONNECTIONS_MAX) {
		pthread_mutex_unlock(&v->d.lock);
		fd = v->config.incoming(v->config.ctx, hdr->dst_port);
		pthread_mutex_lock(&v->d.lock);
	}
	if (fd >= 0 && epoch == v->epoch && v->n_conns < VSOCK_CONNECTIONS_MAX &&
	    !vsock_conn_find(v, hdr->src_port, hdr->dst_port))
		c = vsock_conn_create(v, hdr->src_port, hdr->dst_port, fd, true);
	if (!c) {
		if (fd >= 0)
			close(fd);
		if (epoch == v->epoch)
			refuse(v, hdr);
		return;
	}
	c->peer_buf_alloc = hdr->buf_alloc;
	c->peer_fwd_cnt = hdr->fwd_cnt;
	c->pending = 1u << VSOCK_OP_RESPONSE;
	vsock_conn_queue(c);
	vsock_conn_open(c);
}

/* A packet from @r. Return: whether it is complete and from this guest to the host. */
static bool parse(const struct vsock *v, const struct virtq_request *r, struct vsock_hdr *ret)
{
	struct vsock_hdr le;

	if (iov_read(r->iov, r->n_out, 0, &le, sizeof(le)) != sizeof(le))
		return false;
	*ret = (struct vsock_hdr){
		.src_cid = le64toh(le.src_cid),
		.dst_cid = le64toh(le.dst_cid),
		.src_port = le32toh(le.src_port),
		.dst_port = le32toh(le.dst_port),
		.len = le32toh(le.len),
		.type = le16toh(le.type),
		.op = le16toh(le.op),
		.flags = le32toh(le.flags),
		.buf_alloc = le32toh(le.buf_alloc),
		.fwd_cnt = le32toh(le.fwd_cnt),
	};
	return ret->src_cid == v->config.cid && ret->dst_cid == VSOCK_CID_HOST;
}

/* Only RW has a payload; it is in the request, and no longer than allowed. */
static bool length_fits(const struct virtq_request *r, const struct vsock_hdr *hdr)
{
	if (hdr->op != VSOCK_OP_RW)
		return hdr->len == 0;
	return hdr->len <= VSOCK_PAYLOAD_MAX && hdr->len <= r->out_bytes - VSOCK_HDR_BYTES;
}

static void give_back(struct vsock *v, const struct virtq_request *r)
{
	virtq_push(&v->d.queues[TX], r->head, 0);
	v->tx_unheard++;
}

static void packet(struct vsock *v, const struct virtq_request *r)
{
	struct vsock_conn *c;
	struct vsock_hdr hdr;
	unsigned int n = 0;

	if (!parse(v, r, &hdr)) {
		give_back(v, r);
		return;
	}
	virtio_count(&v->d.env->counters->vsock_packets, 1);
	c = hdr.type == VSOCK_TYPE_STREAM ? vsock_conn_find(v, hdr.src_port, hdr.dst_port) : NULL;
	if (c && !length_fits(r, &hdr)) {
		vsock_conn_abort(c);
	} else if (c) {
		if (hdr.len) {
			n = vsock_slice(r->iov, r->n_out, VSOCK_HDR_BYTES, hdr.len, v->pieces,
					VSOCK_PIECES_MAX);
			virtio_count(&v->d.env->counters->vsock_bytes, hdr.len);
		}
		vsock_conn_packet(c, &hdr, v->pieces, n);
	}
	give_back(v, r);
	if (!c && hdr.op == VSOCK_OP_REQUEST && hdr.type == VSOCK_TYPE_STREAM)
		request(v, &hdr);
	else if (!c)
		refuse(v, &hdr);
}

/* Take what the guest has sent. Return: whether there was anything. */
static bool transmit(struct vsock *v, unsigned int *budget)
{
	struct virtq *q = &v->d.queues[TX];
	bool any = false;

	while (v->tx_pending && v->running && !v->stale && *budget &&
	       v->n_resets < VSOCK_RESETS_MAX) {
		struct virtq_request r;

		virtq_silence(q);
		--*budget;
		if (virtio_pop(&v->d, q, &r, v->tx_iov, VSOCK_QUEUE_SIZE,
			       VSOCK_HDR_BYTES + VSOCK_PAYLOAD_MAX)) {
			any = true;
			packet(v, &r);
		} else {
			v->tx_pending = virtq_listen(q);
		}
	}
	return any;
}

/* ---- packets for the guest ---- */

static void send_refusal(struct vsock *v)
{
	struct vsock_hdr hdr = {
		.src_port = v->resets[0].host_port,
		.dst_port = v->resets[0].guest_port,
		.type = v->resets[0].type,
		.op = VSOCK_OP_RST,
	};

	v->n_resets--;
	memmove(v->resets, v->resets + 1, v->n_resets * sizeof(v->resets[0]));
	vsock_put(v, &hdr);
}

/* Fill the guest's buffers as long as there are any, and something to fill them with. */
static bool receive(struct vsock *v, unsigned int *budget)
{
	struct virtq *q = &v->d.queues[RX];
	bool any = false;

	/* Stale: there was a reset while the owner was asked, and a driver has come since. */
	while (v->running && !v->stale && (v->n_resets || !link_alone(&v->ring)) && *budget) {
		--*budget;
		if (!vsock_slots(v)) {
			if (virtq_listen(q))
				continue;
			return any;
		}
		any = true;
		if (v->n_resets) {
			send_refusal(v);
		} else {
			struct vsock_conn *c = link_entry(v->ring.next, struct vsock_conn, ring);

			link_remove(&c->ring);
			vsock_conn_turn(c);
		}
	}
	virtq_silence(q); /* nobody waits for buffers */
	return any;
}

/*
 * The guest is in no hurry to hear that its packets have been taken: it does when something comes
 * back, when a good part of its queue waits for that, or a little later.
 */
static void interrupts(struct vsock *v)
{
	struct virtq *tx = &v->d.queues[TX];
	struct loop *loop = v->d.env->loop;

	if (v->rx_pushed && virtio_interrupt(&v->d, &v->d.queues[RX]))
		v->tx_unheard = 0;
	v->rx_pushed = false;
	if (v->tx_unheard && (!loop || v->tx_unheard >= tx->size / 4u)) {
		virtio_interrupt(&v->d, tx);
		v->tx_unheard = 0;
	}
	if (v->tx_unheard && !v->tx_timer.at_ms)
		loop_arm(loop, &v->tx_timer, VSOCK_TX_QUIET_MS);
}

static void stop(struct vsock *v)
{
	v->running = false;
	v->stale = true;
	v->epoch++;
	v->n_slots = v->n_resets = 0;
	v->tx_pending = v->rx_pushed = false;
	v->tx_unheard = 0;
}

void vsock_sweep_stale(struct vsock *v)
{
	struct vsock_link *l = v->all.next;

	while (l != &v->all) {
		struct vsock_conn *c = link_entry(l, struct vsock_conn, all);

		l = l->next;
		if (c->epoch != v->epoch)
			vsock_conn_destroy(c);
	}
	v->stale = false;
}

void vsock_work(struct vsock *v)
{
	unsigned int budget = WORK_MAX;
	bool any = true;

	while (any && budget && v->running && !v->stale) {
		any = transmit(v, &budget);
		any |= receive(v, &budget);
	}
	if (v->running)
		interrupts(v);
	if (v->running && (v->d.queues[RX].broken || v->d.queues[TX].broken))
		stop(v);
	if (v->stale) {
		vsock_sweep_stale(v);
		if (v->running)
			vsock_wake(v);
	} else if (!budget) {
		vsock_wake(v);
	}
	if (v->deadlines && !v->timer_on && v->d.env->loop) {
		v->timer_on = true;
		loop_arm(v->d.env->loop, &v->timer, VSOCK_SWEEP_MS);
	}
}

/* ---- the loop ---- */

void vsock_wake(struct vsock *v)
{
	uint64_t one = 1;

	/* A counter that is full wakes it as well. */
	if (v->d.env->loop && write(v->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static void woken(struct loop_watch *w, unsigned int events)
{
	struct vsock *v = w->ctx;
	uint64_t n;

	(void)events;
	if (read(v->wake_fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&v->d.lock);
	vsock_work(v);
	pthread_mutex_unlock(&v->d.lock);
}

static void tx_quiet_over(struct loop_timer *t)
{
	struct vsock *v = t->ctx;

	pthread_mutex_lock(&v->d.lock);
	if (v->tx_unheard)
		virtio_interrupt(&v->d, &v->d.queues[TX]);
	v->tx_unheard = 0;
	pthread_mutex_unlock(&v->d.lock);
}

/* Once a second while connections wait for the guest's answer. */
static void sweep(struct loop_timer *t)
{
	struct vsock *v = t->ctx;
	int64_t now = clock_ms();
	struct vsock_link *l;

	pthread_mutex_lock(&v->d.lock);
	v->timer_on = false;
	if (v->stale)
		vsock_sweep_stale(v);
	for (l = v->all.next; l != &v->all;) {
		struct vsock_conn *c = link_entry(l, struct vsock_conn, all);

		l = l->next;
		if (!c->deadline_ms || c->deadline_ms > now)
			continue;
		if (c->pending & (1u << VSOCK_OP_REQUEST))
			vsock_conn_destroy(c); /* the guest has not heard of it */
		else
			vsock_conn_abort(c);
	}
	vsock_work(v);
	pthread_mutex_unlock(&v->d.lock);
}

int vsock_connect(struct virtio_device *d, uint32_t port, int fd, const char *greeting,
		  struct smolvm_error *err)
{
	struct vsock *v = (struct vsock *)d;
	size_t len = greeting ? strlen(greeting) : 0;
	struct vsock_conn *c = NULL;
	bool full;

	if (len > VSOCK_GREETING_MAX) {
		close(fd);
		return err_set(err, EINVAL, "a greeting of %zu bytes is longer than %u", len,
			       VSOCK_GREETING_MAX);
	}
	pthread_mutex_lock(&d->lock);
	full = v->n_conns >= VSOCK_CONNECTIONS_MAX;
	if (!full) {
		do
			v->next_port =
				v->next_port == UINT32_MAX - 1 ? HOST_PORTS : v->next_port + 1;
		while (vsock_conn_find(v, port, v->next_port));
		c = vsock_conn_create(v, port, v->next_port, fd, false);
	}
	if (c) {
		if (len)
			memcpy(c->greeting, greeting, len);
		vsock_conn_deadline(c, true);
		if (v->running && !v->stale && link_alone(&v->ring) && vsock_slots(v)) {
			vsock_conn_control(c, VSOCK_OP_REQUEST, 0);
			if (virtio_interrupt(d, &d->queues[RX]))
				v->tx_unheard = 0;
			v->rx_pushed = false;
		} else {
			c->pending = 1u << VSOCK_OP_REQUEST;
			vsock_conn_queue(c);
			vsock_wake(v);
		}
		if (!v->timer_on)
			vsock_wake(v);
	}
	pthread_mutex_unlock(&d->lock);
	if (c)
		return 0;
	close(fd);
	if (!full)
		return err_nomem(err);
	return err_set(err, ENOMEM, "the guest has %u connections already", VSOCK_CONNECTIONS_MAX);
}

/* ---- the device ---- */

static int vsock_start(struct virtio_device *d, struct smolvm_error *err)
{
	struct vsock *v = (struct vsock *)d;
	int rc;

	if (!d->env->loop)
		return 0;
	v->wake = (struct loop_watch){
		.fd = v->wake_fd, .events = LOOP_READ, .ready = woken, .ctx = v
	};
	rc = loop_add(d->env->loop, &v->wake);
	if (rc < 0) {
		v->wake.fd = -1;
		return err_set(err, -rc, "cannot watch the guest's sockets: %s", strerror(-rc));
	}
	return 0;
}

static void vsock_activate(struct virtio_device *d)
{
	struct vsock *v = (struct vsock *)d;

	v->running = true;
	v->tx_pending = true;
	virtq_silence(&d->queues[RX]);
	vsock_wake(v);
	if (!d->env->loop)
		vsock_work(v);
}

static void vsock_reset(struct virtio_device *d)
{
	struct vsock *v = (struct vsock *)d;

	stop(v);
	if (d->env->loop)
		vsock_wake(v);
	else
		vsock_sweep_stale(v);
}

static void vsock_notify(struct virtio_device *d, unsigned int q)
{
	struct vsock *v = (struct vsock *)d;

	if (v->stale)
		vsock_sweep_stale(v);
	v->tx_pending |= q == TX;
	vsock_work(v);
}

static void vsock_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
			      unsigned int len)
{
	struct vsock *v = (struct vsock *)d;
	uint64_t cid = htole64(v->config.cid);

	virtio_config_copy(&cid, sizeof(cid), offset, p, len);
}

static void vsock_destroy(struct virtio_device *d)
{
	struct vsock *v = (struct vsock *)d;

	v->epoch++;
	vsock_sweep_stale(v);
	if (d->env->loop) {
		loop_cancel(d->env->loop, &v->timer);
		loop_cancel(d->env->loop, &v->tx_timer);
		loop_remove(d->env->loop, &v->wake);
	}
	close(v->wake_fd);
	virtio_fini(d);
	free(v);
}

static const struct virtio_ops ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.queue_size = VSOCK_QUEUE_SIZE,
	.start = vsock_start,
	.activate = vsock_activate,
	.reset = vsock_reset,
	.notify = vsock_notify,
	.config_read = vsock_config_read,
	.destroy = vsock_destroy,
};

int vsock_create(struct virtio_device **ret, struct virtio_env *env,
		 const struct smolvm_vmm_vsock *config, struct smolvm_error *err)
{
	struct vsock *v;

	if ((config->cid && config->cid < VSOCK_CID_FIRST) || config->cid == UINT32_MAX)
		return err_set(err, EINVAL, "a guest's vsock address cannot be %u", config->cid);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_nomem(err);
	v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wake_fd < 0) {
		int rc = err_sys(err, "cannot make an eventfd");

		free(v);
		return rc;
	}
	virtio_init(&v->d, &ops, env, 0, QUEUES);
	v->config = *config;
	if (!v->config.cid)
		v->config.cid = VSOCK_CID_FIRST;
	v->next_port = HOST_PORTS;
	v->wake.fd = -1;
	v->timer = (struct loop_timer){ .fired = sweep, .ctx = v };
	v->tx_timer = (struct loop_timer){ .fired = tx_quiet_over, .ctx = v };
	link_init(&v->all);
	link_init(&v->ring);
	for (unsigned int i = 0; i < VSOCK_BUCKETS; i++)
		link_init(&v->buckets[i]);
	*ret = &v->d;
	return 0;
}
