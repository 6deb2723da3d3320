/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): a card whose frames travel over a stream socket, each behind its
 * length as 32 bits, big endian.
 *
 * From the socket: as much as there is is read into @in at once and handed out frame by frame, a
 * frame spread over several of the guest's buffers where that was negotiated. While the guest
 * gives no buffers the socket is not read. From the guest: a batch of frames is sent straight from
 * its memory by one call. What the socket does not take waits: whole frames in their buffers,
 * which the guest gets back later, the rest of a frame that was begun in @rest, so that a reset
 * does not leave half a frame on the stream.
 *
 * A stream that ends or makes no sense cannot be mended: the link goes down, for good. No offload
 * is offered, as the other end takes and gives complete checksums and segments.
 *
 * The socket and the loop belong to the I/O thread; a reset, in a vCPU's thread, forgets what was
 * taken from the queues, and the rest is noticed when the socket next reports something.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "virtio/devices.h"

/* syscalls (io): recvfrom sendmsg */

enum {
	RX,
	TX,
	QUEUES,
};

/* Features (§5.1.3). */
#define F_MAC (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)

#define QUEUE_SIZE 256u
#define FRAME_MIN 14u
#define FRAME_MAX 65550u
#define LENGTH_BYTES 4u
#define IN_BYTES (2 * (LENGTH_BYTES + FRAME_MAX))
#define REQUEST_MAX (1u << 20) /* bytes of a request of the guest */
#define RX_BUFFERS_MAX 64u     /* for one frame */
#define RX_PIECES 512u
#define TX_BATCH 32u
#define TX_PIECES 512u
#define ROUNDS_MAX 16 /* of reading or sending in one go */

/* Before each frame on the queues (§5.1.6); all zeroes without offloads, but for num_buffers. */
struct net_hdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
} __attribute__((packed));

#define HDR_BYTES ((uint32_t)sizeof(struct net_hdr))

struct net_config {
	uint8_t mac[6];
	uint16_t status;
} __attribute__((packed));

#define LINK_UP 1u

/* A frame of the guest on its way: its pieces, the length in front of it among them. */
struct tx_frame {
	uint16_t head;
	unsigned int first, n;
	uint32_t length_be, bytes; /* the length included */
};

/**
 * struct net - the device.
 * @fd:    -1 once the link is down.
 * @hup:   the socket's other end is gone; not watched any more, read to its end.
 * @in:    @in_len bytes of the stream from @in_at on.
 * @bufs, @n_bufs: receive buffers taken for the next frame, @bufs_bytes in all; their pieces lie in
 *         @rx_pieces, of which @n_rx_pieces are in use.
 * @frames: those from @first_frame to @n_frames are still to be sent.
 * @rest:  @rest_len bytes from @rest_at on of a frame that was begun.
 */
struct net {
	struct virtio_device d;
	struct net_config config;
	int fd;
	struct loop_watch watch;
	bool running, hup, mergeable, rx_pushed, tx_pushed;
	uint32_t in_at, in_len;
	uint8_t *in;
	struct virtq_request bufs[RX_BUFFERS_MAX];
	unsigned int n_bufs, n_rx_pieces;
	uint64_t bufs_bytes;
	struct iovec rx_pieces[RX_PIECES];
	struct tx_frame frames[TX_BATCH];
	unsigned int first_frame, n_frames;
	struct iovec tx_pieces[TX_PIECES];
	uint32_t rest_at, rest_len;
	uint8_t *rest;
};

static void watch_events(struct net *n, unsigned int on, unsigned int off)
{
	if (n->watch.fd >= 0)
		loop_set(n->d.env->loop, &n->watch, (n->watch.events | on) & ~off);
}

static void link_down(struct net *n)
{
	if (n->fd < 0)
		return;
	if (n->d.env->loop)
		loop_remove(n->d.env->loop, &n->watch);
	close(n->fd);
	n->fd = -1;
	n->in_len = n->rest_len = 0;
	n->config.status &= (uint16_t)~htole16(LINK_UP);
	virtio_config_changed(&n->d);
}

/* ---- to the guest ---- */

/* Take buffers until @bytes fit. Return: 1; 0: the guest has to give more; -ENOBUFS: never. */
static int take_buffers(struct net *n, uint32_t bytes)
{
	struct virtq *q = &n->d.queues[RX];
	unsigned int most = n->mergeable ? RX_BUFFERS_MAX : 1;

	while (n->bufs_bytes < bytes) {
		struct virtq_request *r = &n->bufs[n->n_bufs];

		if (n->n_bufs == most || n->n_rx_pieces + QUEUE_SIZE > RX_PIECES)
			return -ENOBUFS;
		if (!virtio_pop(&n->d, q, r, n->rx_pieces + n->n_rx_pieces, QUEUE_SIZE,
				REQUEST_MAX))
			return 0;
		if (r->n_out || r->in_bytes < HDR_BYTES) {
			virtio_fail(&n->d);
			return 0;
		}
		n->n_rx_pieces += r->n_in;
		n->bufs_bytes += r->in_bytes;
		n->n_bufs++;
	}
	return 1;
}

/* Put a frame, for which there is room, into the first of the buffers taken. */
static void fill_buffers(struct net *n, const uint8_t *frame, uint32_t len)
{
	struct net_hdr hdr = { .num_buffers = 0 };
	uint32_t left = len + HDR_BYTES;
	unsigned int used = 0;

	while (left) {
		const struct virtq_request *r = &n->bufs[used];
		uint32_t room = r->in_bytes < left ? (uint32_t)r->in_bytes : left;
		uint32_t skip = used == 0 ? HDR_BYTES : 0;

		iov_write(r->iov, r->n_in, skip, frame, room - skip);
		frame += room - skip;
		left -= room;
		used++;
	}
	hdr.num_buffers = htole16((uint16_t)used);
	iov_write(n->bufs[0].iov, n->bufs[0].n_in, 0, &hdr, sizeof(hdr));
	left = len + HDR_BYTES;
	for (unsigned int i = 0; i < used; i++) {
		uint32_t room = n->bufs[i].in_bytes < left ? (uint32_t)n->bufs[i].in_bytes : left;

		virtq_push(&n->d.queues[RX], n->bufs[i].head, room);
		n->bufs_bytes -= n->bufs[i].in_bytes;
		left -= room;
	}
	n->n_bufs -= used;
	memmove(n->bufs, n->bufs + used, n->n_bufs * sizeof(n->bufs[0]));
	if (!n->n_bufs)
		n->n_rx_pieces = 0;
	n->rx_pushed = true;
	virtio_count(&n->d.env->counters->net_packets, 1);
	virtio_count(&n->d.env->counters->net_bytes, len);
}

/* Hand out whole frames of @in. Return: whether all of them have gone. */
static bool deliver(struct net *n)
{
	while (n->in_len >= LENGTH_BYTES) {
		uint32_t be, len;
		int rc;

		memcpy(&be, n->in + n->in_at, sizeof(be));
		len = be32toh(be);
		if (len < FRAME_MIN || len > FRAME_MAX) {
			link_down(n);
			return false;
		}
		if (n->in_len < LENGTH_BYTES + len)
			return true;
		rc = take_buffers(n, HDR_BYTES + len);
		if (rc == 0)
			return false;
		if (rc > 0) /* or else it is too long for what the guest takes: dropped */
			fill_buffers(n, n->in + n->in_at + LENGTH_BYTES, len);
		n->in_at += LENGTH_BYTES + len;
		n->in_len -= LENGTH_BYTES + len;
	}
	return true;
}

/* Read what there is, behind what is there. Return: whether there may be more. */
static bool read_stream(struct net *n)
{
	size_t room;
	ssize_t got;

	/* What is there of a frame has room behind it to become whole. */
	if (n->in_len == 0 || n->in_at > IN_BYTES / 2) {
		memmove(n->in, n->in + n->in_at, n->in_len);
		n->in_at = 0;
	}
	room = IN_BYTES - n->in_at - n->in_len;
	do
		got = recv(n->fd, n->in + n->in_at + n->in_len, room, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		n->in_len += (uint32_t)got;
	else if (got == 0 || errno != EAGAIN || n->hup)
		link_down(n);
	return got > 0 && (n->hup || (size_t)got == room);
}

static void receive(struct net *n)
{
	struct virtq *q = &n->d.queues[RX];
	bool more = true;
	int rounds = 0;

	while (n->running && n->fd >= 0) {
		if (++rounds > ROUNDS_MAX) {
			virtio_again(&n->d, RX);
			break;
		}
		if (deliver(n)) {
			if (!more)
				break;
			more = read_stream(n);
		} else if (!virtq_listen(q)) {
			watch_events(n, 0, LOOP_READ); /* notify() goes on */
			return;
		}
	}
	virtq_silence(q);
	watch_events(n, LOOP_READ, 0);
}

/* ---- from the guest ---- */

static void give_back(struct net *n, uint16_t head)
{
	virtq_push(&n->d.queues[TX], head, 0);
	n->tx_pushed = true;
}

/* Take one frame; @at: the first free piece. Return: pieces used, 0 for none; -EAGAIN: dropped. */
static int take_frame(struct net *n, unsigned int at)
{
	struct tx_frame *f = &n->frames[n->n_frames];
	struct iovec *iov = &n->tx_pieces[at];
	size_t strip = HDR_BYTES;
	struct virtq_request r;

	if (!virtio_pop(&n->d, &n->d.queues[TX], &r, iov + 1, QUEUE_SIZE, REQUEST_MAX))
		return 0;
	if (n->fd < 0 || r.out_bytes < HDR_BYTES + FRAME_MIN ||
	    r.out_bytes > HDR_BYTES + FRAME_MAX) {
		give_back(n, r.head);
		return -EAGAIN;
	}
	*f = (struct tx_frame){ .head = r.head, .first = at, .n = r.n_out + 1 };
	f->bytes = (uint32_t)r.out_bytes - HDR_BYTES;
	f->length_be = htobe32(f->bytes);
	f->bytes += LENGTH_BYTES;
	iov[0] = (struct iovec){ &f->length_be, LENGTH_BYTES };
	for (unsigned int i = 1; strip; i++) {
		size_t len = iov[i].iov_len < strip ? iov[i].iov_len : strip;

		iov[i].iov_base = (uint8_t *)iov[i].iov_base + len;
		iov[i].iov_len -= len;
		strip -= len;
	}
	n->n_frames++;
	return (int)f->n;
}

/* Fill an empty batch. Return: whether there is anything to send. */
static bool take_batch(struct net *n)
{
	unsigned int at = 0, seen = 0;

	n->first_frame = n->n_frames = 0;
	while (n->n_frames < TX_BATCH && at + 1 + QUEUE_SIZE <= TX_PIECES && seen++ < QUEUE_SIZE) {
		int used = take_frame(n, at);

		if (used == 0)
			break;
		at += used > 0 ? (unsigned int)used : 0;
	}
	return n->n_frames > 0;
}

/* @sent bytes of the batch have gone: give back what is whole, keep the rest of what is not. */
static void batch_sent(struct net *n, size_t sent)
{
	while (sent) {
		struct tx_frame *f = &n->frames[n->first_frame++];

		if (sent < f->bytes) {
			n->rest_at = 0;
			n->rest_len = (uint32_t)iov_read(n->tx_pieces + f->first, f->n, sent,
							 n->rest, f->bytes - sent);
			sent = f->bytes;
		}
		sent -= f->bytes;
		virtio_count(&n->d.env->counters->net_packets, 1);
		virtio_count(&n->d.env->counters->net_bytes, f->bytes - LENGTH_BYTES);
		give_back(n, f->head);
	}
}

/* Return: bytes sent; 0: the socket is full, or gone. */
static size_t send_pieces(struct net *n, struct iovec *iov, unsigned int pieces)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = pieces };
	ssize_t sent;

	do
		sent = sendmsg(n->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		link_down(n);
	return sent > 0 ? (size_t)sent : 0;
}

/* Send @rest and the batch. Return: whether all of it has gone. */
static bool flush(struct net *n)
{
	while (n->fd >= 0 && n->rest_len) {
		struct iovec iov = { n->rest + n->rest_at, n->rest_len };
		size_t sent = send_pieces(n, &iov, 1);

		if (!sent)
			break;
		n->rest_at += (uint32_t)sent;
		n->rest_len -= (uint32_t)sent;
	}
	while (n->fd >= 0 && !n->rest_len && n->first_frame < n->n_frames) {
		unsigned int first = n->frames[n->first_frame].first;
		const struct tx_frame *last = &n->frames[n->n_frames - 1];
		size_t sent = send_pieces(n, n->tx_pieces + first, last->first + last->n - first);

		if (!sent)
			break;
		batch_sent(n, sent);
	}
	while (n->fd < 0 && n->first_frame < n->n_frames)
		give_back(n, n->frames[n->first_frame++].head);
	return !n->rest_len && n->first_frame == n->n_frames;
}

static void transmit(struct net *n)
{
	struct virtq *q = &n->d.queues[TX];

	for (int i = 0; flush(n); i++) {
		if (!n->running) {
			watch_events(n, 0, LOOP_WRITE);
			return;
		}
		if (i == ROUNDS_MAX) {
			virtio_again(&n->d, TX);
			return;
		}
		virtq_silence(q);
		if (!take_batch(n) && !virtq_listen(q)) {
			watch_events(n, 0, LOOP_WRITE);
			return;
		}
	}
	watch_events(n, LOOP_WRITE, 0);
}

/* ---- events ---- */

static void interrupts(struct net *n)
{
	bool told = n->rx_pushed && virtio_interrupt(&n->d, &n->d.queues[RX]);

	if (n->tx_pushed && !told)
		virtio_interrupt(&n->d, &n->d.queues[TX]);
	n->rx_pushed = n->tx_pushed = false;
}

static void socket_ready(struct loop_watch *w, unsigned int events)
{
	struct net *n = w->ctx;

	pthread_mutex_lock(&n->d.lock);
	if (events & LOOP_HANGUP) {
		loop_remove(n->d.env->loop, &n->watch);
		n->hup = true;
		if (!n->running)
			link_down(n);
	}
	if ((events & LOOP_WRITE) && n->fd >= 0)
		transmit(n);
	if ((events & (LOOP_READ | LOOP_HANGUP)) && n->fd >= 0) {
		if (n->running)
			receive(n);
		else
			watch_events(n, 0, LOOP_READ);
	}
	interrupts(n);
	pthread_mutex_unlock(&n->d.lock);
}

static void net_notify(struct virtio_device *d, unsigned int q)
{
	struct net *n = (struct net *)d;

	if (q == RX)
		receive(n);
	else
		transmit(n);
	interrupts(n);
}

/* ---- the device ---- */

static int net_start(struct virtio_device *d, struct smolvm_error *err)
{
	struct net *n = (struct net *)d;
	int rc;

	if (!d->env->loop)
		return 0;
	n->watch = (struct loop_watch){ .fd = n->fd, .ready = socket_ready, .ctx = n };
	rc = loop_add(d->env->loop, &n->watch);
	if (rc < 0) {
		n->watch.fd = -1;
		return err_set(err, -rc, "cannot watch the network's socket: %s", strerror(-rc));
	}
	return 0;
}

static void net_activate(struct virtio_device *d)
{
	struct net *n = (struct net *)d;

	n->running = true;
	n->mergeable = virtio_has(d, F_MRG_RXBUF);
	virtio_again(d, RX);
}

static void net_reset(struct virtio_device *d)
{
	struct net *n = (struct net *)d;

	n->running = n->rx_pushed = n->tx_pushed = false;
	n->n_bufs = n->n_rx_pieces = 0;
	n->bufs_bytes = 0;
	n->first_frame = n->n_frames = 0;
}

static void net_config_read(struct virtio_device *d, unsigned int offset, uint8_t *p,
			    unsigned int len)
{
	struct net *n = (struct net *)d;

	virtio_config_copy(&n->config, sizeof(n->config), offset, p, len);
}

static void net_destroy(struct virtio_device *d)
{
	struct net *n = (struct net *)d;

	if (d->env->loop)
		loop_remove(d->env->loop, &n->watch);
	if (n->fd >= 0)
		close(n->fd);
	virtio_fini(d);
	free(n->in);
	free(n->rest);
	free(n);
}

static const struct virtio_ops ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.queue_size = QUEUE_SIZE,
	.start = net_start,
	.activate = net_activate,
	.reset = net_reset,
	.notify = net_notify,
	.config_read = net_config_read,
	.destroy = net_destroy,
};

/* The guest's address: what was asked for, or a random one of the locally administered. */
static int choose_mac(uint8_t mac[6], const uint8_t asked[6], struct smolvm_error *err)
{
	static const uint8_t none[6];

	memcpy(mac, asked, sizeof(none));
	if (memcmp(asked, none, sizeof(none)) == 0) {
		if (getrandom(mac, sizeof(none), 0) != sizeof(none))
			return err_sys(err, "cannot make a network address");
		mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
	}
	if (mac[0] & 1)
		return err_set(err, EINVAL, "a network card's address cannot be a group's");
	return 0;
}

int net_create(struct virtio_device **ret, struct virtio_env *env,
	       const struct smolvm_vmm_net *config, struct smolvm_error *err)
{
	socklen_t size = sizeof(int);
	uint8_t mac[6];
	int type, rc;
	struct net *n;

	if (getsockopt(config->fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
		return err_set(err, EINVAL, "the network's descriptor is no stream socket");
	rc = choose_mac(mac, config->mac, err);
	if (rc < 0)
		return rc;
	n = calloc(1, sizeof(*n));
	if (n) {
		n->in = malloc(IN_BYTES);
		n->rest = malloc(LENGTH_BYTES + FRAME_MAX);
	}
	if (!n || !n->in || !n->rest) {
		if (n) {
			free(n->in);
			free(n->rest);
		}
		free(n);
		return err_nomem(err);
	}
	virtio_init(&n->d, &ops, env, F_MAC | F_MRG_RXBUF | F_STATUS, QUEUES);
	n->fd = config->fd;
	n->watch.fd = -1;
	memcpy(n->config.mac, mac, sizeof(mac));
	n->config.status = htole16(LINK_UP);
	*ret = &n->d;
	return 0;
}
