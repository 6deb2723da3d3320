/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many streams over one byte channel.
 *
 * Theory of operation. A stream lives in a hash table by its number until it is closed both ways
 * or reset. All that a stream still has to say (that it opens, what it accepts, credit, data, the
 * end) is kept in the stream, and a stream with something to say stands in the ready list;
 * mux_output() serves the list's head and moves it to the tail. A stream that this side has reset
 * stays behind without an owner (a zombie) until its RESET frame is written.
 *
 * Limits. The opener counts a stream until it has sent or received the frame that ends it, and the
 * acceptor is never later to forget it on the wire, zombies included: a peer that keeps to its own
 * MUX_STREAMS_MAX cannot make this side hold more, and one that does not has broken the protocol.
 */
#include "proto/mux.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/endian.h"
#include "base/err.h"

#define HELLO_MAGIC  0x4d564d53u /* "SMVM" */
#define HELLO_LEN    20u
#define CONTROL_MAX  HELLO_LEN
#define BUCKETS      64u
#define HELD_MAX     (MUX_FRAME_HEADER + CONTROL_MAX)
#define CREDIT_BATCH (MUX_WINDOW / 4)

enum frame { F_HELLO = 1, F_OPEN, F_OPENED, F_DATA, F_CREDIT, F_FIN, F_RESET };

struct muxed {
	struct stream stream; /* without events: a zombie */
	struct mux *mux;
	struct muxed *hash_next;
	struct muxed *ready_prev, *ready_next;
	struct buf tx;
	uint32_t id, port;
	uint32_t send_credit; /* bytes that the peer will still take */
	uint32_t recv_credit; /* bytes that the peer may still send */
	uint32_t credit_due;  /* bytes to give back to it */
	uint32_t reset_errno;
	bool in_ready, starved, credit_now;
	bool no_memory; /* mux_write() failed: to be closed at its next turn */
	bool accepted;
	bool say_open, say_opened, say_reset;
	bool fin_queued, fin_sent, fin_received;
};

struct mux {
	enum mux_side side;
	uint32_t features;
	const struct mux_events *events;
	void *ctx;
	bool hello_sent, hello_received, broken;
	uint32_t peer_window;
	uint32_t next_id, last_peer_id;
	unsigned int n_mine, n_peers, n_zombies;
	struct muxed *hash[BUCKETS];
	struct muxed *ready; /* circular; the head is served next */
	/* Frames that go out in pieces, because the output buffer is smaller than they are. */
	uint8_t held[HELD_MAX];
	size_t held_at, held_len;
	/* The frame that is being received. */
	uint8_t header[MUX_FRAME_HEADER];
	size_t header_have;
	uint8_t control[CONTROL_MAX];
	size_t control_have;
	size_t payload_left;
};

/* ---- table and ready list ---- */

static bool is_mine(const struct mux *m, uint32_t id)
{
	return (id & 1) == (uint32_t)m->side;
}

static struct muxed *find(const struct mux *m, uint32_t id)
{
	struct muxed *s = m->hash[id / 2 % BUCKETS];

	while (s && s->id != id)
		s = s->hash_next;
	return s;
}

static bool has_output(const struct muxed *s)
{
	return s->say_open || s->say_opened || s->say_reset || s->credit_now || s->no_memory ||
	       (s->tx.len && s->send_credit) || (s->fin_queued && !s->fin_sent && !s->tx.len);
}

static void ready_remove(struct muxed *s)
{
	struct mux *m = s->mux;

	if (!s->in_ready)
		return;
	s->ready_prev->ready_next = s->ready_next;
	s->ready_next->ready_prev = s->ready_prev;
	if (m->ready == s)
		m->ready = s->ready_next == s ? NULL : s->ready_next;
	s->in_ready = false;
}

static void ready_update(struct muxed *s)
{
	struct mux *m = s->mux;

	if (s->in_ready || !has_output(s))
		return;
	if (!m->ready)
		m->ready = s->ready_prev = s;
	s->ready_next = m->ready;
	s->ready_prev = m->ready->ready_prev;
	s->ready_prev->ready_next = s->ready_next->ready_prev = s;
	s->in_ready = true;
}

static const struct stream_ops mux_ops = {
	.accept = mux_accept,
	.write = mux_write,
	.room = mux_room,
	.finish = mux_finish,
	.consumed = mux_consumed,
	.grant = mux_grant,
	.reset = mux_reset,
};

static struct muxed *of(struct stream *stream)
{
	return (struct muxed *)stream; /* it begins with it */
}

static struct muxed *stream_new(struct mux *m, uint32_t id, uint32_t port)
{
	struct muxed *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->stream.ops = &mux_ops;
	s->mux = m;
	s->id = id;
	s->port = port;
	s->send_credit = m->peer_window;
	s->recv_credit = MUX_WINDOW;
	buf_init(&s->tx, MUX_QUEUE_MAX);
	s->hash_next = m->hash[id / 2 % BUCKETS];
	m->hash[id / 2 % BUCKETS] = s;
	*(is_mine(m, id) ? &m->n_mine : &m->n_peers) += 1;
	return s;
}

static void stream_free(struct muxed *s)
{
	struct mux *m = s->mux;
	struct muxed **at = &m->hash[s->id / 2 % BUCKETS];

	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	ready_remove(s);
	*(is_mine(m, s->id) ? &m->n_mine : &m->n_peers) -= 1;
	if (!s->stream.events)
		m->n_zombies--;
	buf_fini(&s->tx);
	free(s);
}

static void stream_close(struct muxed *s, int error)
{
	if (s->stream.events)
		s->stream.events->closed(s->stream.ctx, &s->stream, error);
	stream_free(s);
}

static void make_zombie(struct muxed *s, int error)
{
	struct mux *m = s->mux;

	if (s->say_reset)
		return;
	s->stream.events = NULL;
	m->n_zombies++;
	s->say_opened = s->credit_now = s->no_memory = false;
	s->fin_queued = false;
	buf_drop(&s->tx, s->tx.len);
	s->say_reset = true;
	s->reset_errno = (uint32_t)-error;
	ready_update(s);
}

/* ---- life ---- */

struct mux *mux_create(enum mux_side side, uint32_t features, const struct mux_events *events,
		       void *ctx)
{
	struct mux *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->side = side;
	m->features = features;
	m->events = events;
	m->ctx = ctx;
	m->next_id = side == MUX_HOST ? 2 : 1;
	return m;
}

void mux_destroy(struct mux *m, int error)
{
	if (!m)
		return;
	m->broken = true; /* closed() opens nothing any more */
	for (unsigned int i = 0; i < BUCKETS; i++)
		while (m->hash[i])
			stream_close(m->hash[i], error);
	free(m);
}

unsigned int mux_streams(const struct mux *m)
{
	return m->n_mine + m->n_peers - m->n_zombies;
}

/* ---- what streams do ---- */

struct stream *mux_open(struct mux *m, uint32_t port, const struct stream_events *events,
			void *ctx)
{
	struct muxed *s;

	if (m->broken || m->n_mine >= MUX_STREAMS_MAX || m->next_id > UINT32_MAX - 2) {
		errno = m->broken ? EPIPE : EMFILE;
		return NULL;
	}
	s = stream_new(m, m->next_id, port);
	if (!s) {
		errno = ENOMEM;
		return NULL;
	}
	m->next_id += 2;
	s->stream.events = events;
	s->stream.ctx = ctx;
	s->say_open = true;
	ready_update(s);
	return &s->stream;
}

void mux_accept(struct stream *stream, const struct stream_events *events, void *ctx)
{
	struct muxed *s = of(stream);

	s->stream.events = events;
	s->stream.ctx = ctx;
	s->say_opened = true;
	ready_update(s);
}

size_t mux_room(struct stream *stream)
{
	struct muxed *s = of(stream);
	size_t room = s->fin_queued ? 0 : buf_room(&s->tx);

	if (room == 0)
		s->starved = true;
	return room;
}

size_t mux_write(struct stream *stream, const void *p, size_t n)
{
	struct muxed *s = of(stream);
	size_t room = s->fin_queued || s->no_memory ? 0 : buf_room(&s->tx);
	size_t taken = n < room ? n : room;

	if (taken && buf_add(&s->tx, p, taken) < 0) {
		s->no_memory = true;
		taken = 0;
	}
	if (taken < n)
		s->starved = true;
	ready_update(s);
	return taken;
}

void mux_finish(struct stream *stream)
{
	struct muxed *s = of(stream);

	s->fin_queued = true;
	ready_update(s);
}

void mux_consumed(struct stream *stream, size_t n)
{
	struct muxed *s = of(stream);

	s->credit_due += (uint32_t)n;
	if (s->credit_due >= CREDIT_BATCH && !s->fin_received)
		s->credit_now = true;
	ready_update(s);
}

void mux_grant(struct stream *stream, uint32_t n)
{
	struct muxed *s = of(stream);

	s->credit_due += n;
	s->credit_now = true;
	ready_update(s);
}

void mux_reset(struct stream *stream, int error)
{
	struct muxed *s = of(stream);
	bool unheard_of = s->say_open;

	make_zombie(s, error);
	if (unheard_of)
		stream_free(s);
}

/* ---- output ---- */

static uint8_t *frame(uint8_t *p, enum frame type, uint32_t id, size_t len)
{
	p[0] = (uint8_t)type;
	p[1] = 0;
	put_le16(p + 2, (uint16_t)len);
	put_le32(p + 4, id);
	return p + MUX_FRAME_HEADER;
}

static size_t put_hello(struct mux *m, uint8_t *p)
{
	uint8_t *q = frame(p, F_HELLO, 0, HELLO_LEN);

	put_le32(q, HELLO_MAGIC);
	put_le32(q + 4, MUX_VERSION);
	put_le32(q + 8, MUX_VERSION);
	put_le32(q + 12, m->features);
	put_le32(q + 16, MUX_WINDOW);
	m->hello_sent = true;
	return MUX_FRAME_HEADER + HELLO_LEN;
}

static size_t put_number(uint8_t *p, enum frame type, uint32_t id, uint32_t v)
{
	put_le32(frame(p, type, id, 4), v);
	return MUX_FRAME_HEADER + 4;
}

/* The short frames that a stream has to send, one of them. Return: its length, 0 without one. */
static size_t put_control(struct muxed *s, uint8_t *p)
{
	if (s->say_open) {
		s->say_open = false;
		return put_number(p, F_OPEN, s->id, s->port);
	}
	if (s->say_opened) {
		s->say_opened = false;
		frame(p, F_OPENED, s->id, 0);
		return MUX_FRAME_HEADER;
	}
	if (s->credit_now) {
		uint32_t due = s->credit_due;

		s->credit_now = false;
		s->credit_due = 0;
		s->recv_credit += due;
		return put_number(p, F_CREDIT, s->id, due);
	}
	return 0;
}

/*
 * Only the @first frame of an output buffer is cut to fit: cut ones at the end would be the turns
 * of the same streams over and over.
 */
static size_t put_data(struct muxed *s, uint8_t *p, size_t cap, bool first)
{
	size_t n = s->tx.len < s->send_credit ? s->tx.len : s->send_credit;
	size_t room = cap - MUX_FRAME_HEADER;

	if (n > MUX_PAYLOAD_MAX)
		n = MUX_PAYLOAD_MAX;
	if (n > room && !first)
		return 0;
	n = n < room ? n : room;
	memcpy(frame(p, F_DATA, s->id, n), buf_peek(&s->tx), n);
	buf_drop(&s->tx, n);
	s->send_credit -= (uint32_t)n;
	return MUX_FRAME_HEADER + n;
}

/*
 * One turn of the stream at the head of the ready list. Return: bytes written; 0 when what it has
 * to say does not fit into @cap any more. The stream may be gone afterwards.
 * @first: nothing stands in the output buffer yet.
 */
static size_t serve(struct muxed *s, uint8_t *p, size_t cap, bool first)
{
	size_t n = 0;

	if (s->no_memory && !s->say_open) { /* bytes are missing: it cannot go on */
		s->stream.events->closed(s->stream.ctx, &s->stream, -ENOMEM);
		make_zombie(s, -ENOMEM);
	}
	while (cap - n >= MUX_FRAME_HEADER + 4) {
		size_t k = put_control(s, p + n);

		if (!k)
			break;
		n += k;
	}
	if (cap - n < MUX_FRAME_HEADER + 4)
		return n;
	if (s->say_reset) {
		n += put_number(p + n, F_RESET, s->id, s->reset_errno);
		stream_free(s);
		return n;
	}
	if (s->tx.len && s->send_credit) {
		n += put_data(s, p + n, cap - n, first);
		if (s->starved && !s->fin_queued && s->tx.len <= MUX_QUEUE_MAX / 2) {
			s->starved = false;
			if (s->stream.events && s->stream.events->writable)
				s->stream.events->writable(s->stream.ctx, &s->stream);
		}
		return n;
	}
	if (s->fin_queued && !s->fin_sent && !s->tx.len) {
		frame(p + n, F_FIN, s->id, 0);
		n += MUX_FRAME_HEADER;
		s->fin_sent = true;
		if (s->fin_received)
			stream_close(s, 0);
	}
	return n;
}

/* Whole frames, as many as fit into @cap, which is at least HELD_MAX: one of any kind fits. */
static size_t put_frames(struct mux *m, uint8_t *p, size_t cap, bool first)
{
	size_t n = 0;

	if (!m->hello_sent)
		n = put_hello(m, p);
	while (m->ready) {
		struct muxed *s = m->ready;
		uint32_t id = s->id;
		size_t k = serve(s, p + n, cap - n, first && n == 0);

		n += k;
		if (m->ready == s && find(m, id) == s && !has_output(s)) {
			ready_remove(s);
			continue;
		}
		if (k == 0) /* it has something to say, and no room for it: the next time */
			break;
		if (m->ready == s && find(m, id) == s)
			m->ready = s->ready_next; /* to the tail */
	}
	return n;
}

size_t mux_output(struct mux *m, uint8_t *p, size_t cap)
{
	size_t n;

	if (!m->held_len && cap < HELD_MAX) {
		m->held_at = 0;
		m->held_len = put_frames(m, m->held, HELD_MAX, true);
	}
	n = m->held_len < cap ? m->held_len : cap;
	memcpy(p, m->held + m->held_at, n);
	m->held_at += n;
	m->held_len -= n;
	return cap - n >= HELD_MAX ? n + put_frames(m, p + n, cap - n, n == 0) : n;
}

bool mux_output_pending(const struct mux *m)
{
	return m->held_len || !m->hello_sent || m->ready;
}

/* ---- input ---- */

static int broke(struct mux *m, struct smolvm_error *err, const char *what)
{
	m->broken = true;
	return err_set(err, EPROTO, "the channel's other side broke the protocol: %s", what);
}

static int take_hello(struct mux *m, const uint8_t *p, struct smolvm_error *err)
{
	uint32_t version = get_le32(p + 4), lowest = get_le32(p + 8), window = get_le32(p + 16);

	if (get_le32(p) != HELLO_MAGIC)
		return broke(m, err, "no greeting");
	if (lowest > MUX_VERSION || version < MUX_VERSION) {
		m->broken = true;
		return err_set(err, EPROTONOSUPPORT,
			       "the channel's other side speaks protocol %u to %u, this one %u: "
			       "use parts of one release", lowest, version, MUX_VERSION);
	}
	if (window > MUX_WINDOW_MAX)
		return broke(m, err, "window too large");
	m->hello_received = true;
	m->peer_window = window;
	for (unsigned int i = 0; i < BUCKETS; i++) {
		for (struct muxed *s = m->hash[i]; s; s = s->hash_next) {
			s->send_credit += window;
			ready_update(s);
		}
	}
	m->events->hello(m->ctx, get_le32(p + 12));
	return 0;
}

static int take_open(struct mux *m, uint32_t id, uint32_t port, struct smolvm_error *err)
{
	struct muxed *s;
	int rc;

	if (is_mine(m, id) || id <= m->last_peer_id)
		return broke(m, err, "stream number out of order");
	if (m->n_peers >= MUX_STREAMS_MAX)
		return broke(m, err, "too many streams");
	m->last_peer_id = id;
	s = stream_new(m, id, port);
	if (!s) {
		m->broken = true;
		return err_nomem(err);
	}
	rc = m->events->incoming(m->ctx, &s->stream, port);
	s = find(m, id);
	assert(rc < 0 || !s || s->stream.events || s->say_reset);
	if (rc < 0 && s)
		make_zombie(s, rc);
	return 0;
}

static int take_opened(struct muxed *s, struct smolvm_error *err)
{
	if (!is_mine(s->mux, s->id) || s->accepted)
		return broke(s->mux, err, "accepted what was not asked for");
	s->accepted = true;
	if (s->stream.events->opened)
		s->stream.events->opened(s->stream.ctx, &s->stream);
	return 0;
}

static int take_credit(struct muxed *s, uint32_t n, struct smolvm_error *err)
{
	if (n > MUX_WINDOW_MAX || s->send_credit > MUX_WINDOW_MAX - n)
		return broke(s->mux, err, "credit out of range");
	s->send_credit += n;
	ready_update(s);
	return 0;
}

static int take_fin(struct muxed *s, struct smolvm_error *err)
{
	struct mux *m = s->mux;
	uint32_t id = s->id;

	if (s->fin_received)
		return broke(m, err, "ended twice");
	s->fin_received = true;
	s->stream.events->ended(s->stream.ctx, &s->stream);
	s = find(m, id);
	if (!s || !s->fin_sent)
		return 0;
	stream_close(s, 0);
	return 0;
}

/* The lengths that frames other than DATA have. */
static const uint8_t control_len[] = {
	[F_HELLO] = HELLO_LEN, [F_OPEN] = 4, [F_OPENED] = 0,
	[F_CREDIT] = 4, [F_FIN] = 0, [F_RESET] = 4,
};

/* The stream that a frame is for. NULL where this side is done with it: it was under way. */
static int lookup(struct mux *m, enum frame type, uint32_t id, struct muxed **ret,
		  struct smolvm_error *err)
{
	struct muxed *s = find(m, id);

	if (s ? s->say_open : is_mine(m, id) ? id >= m->next_id : id > m->last_peer_id)
		return broke(m, err, "a stream that was never opened");
	if (s && is_mine(m, id) && !s->accepted && type != F_OPENED && type != F_RESET &&
	    s->stream.events)
		return broke(m, err, "a stream that was not accepted");
	*ret = s;
	return 0;
}

static int take_control(struct mux *m, enum frame type, uint32_t id, struct smolvm_error *err)
{
	uint32_t number = get_le32(m->control);
	struct muxed *s;
	int rc;

	if (type == F_HELLO)
		return take_hello(m, m->control, err);
	if (type == F_OPEN)
		return take_open(m, id, number, err);
	rc = lookup(m, type, id, &s, err);
	if (rc < 0 || !s)
		return rc;
	if (!s->stream.events) { /* a zombie: after the peer's last word nothing is to be said */
		if (type == F_RESET || (type == F_FIN && s->fin_sent))
			stream_free(s);
		return 0;
	}
	switch (type) {
	case F_OPENED:
		return take_opened(s, err);
	case F_CREDIT:
		return take_credit(s, number, err);
	case F_FIN:
		return take_fin(s, err);
	default:
		stream_close(s, number && number < 4096 ? -(int)number : -ECONNRESET);
		return 0;
	}
}

static int check_header(struct mux *m, struct smolvm_error *err)
{
	unsigned int type = m->header[0];
	uint16_t len = get_le16(m->header + 2);

	if (m->header[1] || type < F_HELLO || type > F_RESET)
		return broke(m, err, "no frame");
	if ((type == F_HELLO) == m->hello_received)
		return broke(m, err, m->hello_received ? "a second greeting" : "no greeting");
	if ((type == F_HELLO) != (get_le32(m->header + 4) == 0))
		return broke(m, err, "stream number");
	if (type == F_DATA ? len == 0 || len > MUX_PAYLOAD_MAX : len != control_len[type])
		return broke(m, err, "frame length");
	m->payload_left = len;
	m->control_have = 0;
	return 0;
}

/* Credit is checked and taken once for the whole frame, at its header. */
static int begin_data(struct mux *m, struct smolvm_error *err)
{
	struct muxed *s;
	int rc = lookup(m, F_DATA, get_le32(m->header + 4), &s, err);

	if (rc < 0 || !s || !s->stream.events)
		return rc;
	if (s->fin_received)
		return broke(m, err, "data after the end");
	if (s->recv_credit < m->payload_left)
		return broke(m, err, "more data than there is credit for");
	s->recv_credit -= (uint32_t)m->payload_left;
	return 0;
}

static void take_data(struct mux *m, const uint8_t *p, size_t n)
{
	struct muxed *s = find(m, get_le32(m->header + 4));

	if (s && s->stream.events)
		s->stream.events->data(s->stream.ctx, &s->stream, p, n);
}

int mux_input(struct mux *m, const uint8_t *p, size_t n, struct smolvm_error *err)
{
	const uint8_t *end = p + n;
	int rc = 0;

	if (m->broken)
		return err_set(err, EPROTO, "the channel is broken");
	while (rc == 0 && p < end) {
		size_t k = (size_t)(end - p);

		if (m->header_have < MUX_FRAME_HEADER) {
			size_t want = MUX_FRAME_HEADER - m->header_have;

			k = k < want ? k : want;
			memcpy(m->header + m->header_have, p, k);
			p += k;
			m->header_have += k;
			if (m->header_have < MUX_FRAME_HEADER)
				break;
			rc = check_header(m, err);
			if (rc == 0 && m->header[0] == F_DATA)
				rc = begin_data(m, err);
		} else {
			k = k < m->payload_left ? k : m->payload_left;
			if (m->header[0] == F_DATA) {
				take_data(m, p, k);
			} else {
				memcpy(m->control + m->control_have, p, k);
				m->control_have += k;
			}
			p += k;
			m->payload_left -= k;
		}
		if (rc == 0 && m->payload_left == 0) {
			m->header_have = 0;
			if (m->header[0] != F_DATA)
				rc = take_control(m, m->header[0], get_le32(m->header + 4), err);
		}
	}
	return rc;
}
