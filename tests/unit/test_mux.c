/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over one channel: against a peer written byte by byte, and against itself.
 *
 * Linked with malloc() and calloc() wrapped, so that a chosen allocation can fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "proto/mux.h"

#define MAGIC 0x4d564d53u
#define BIG   (1u << 20)

enum { HELLO = 1, OPEN, OPENED, DATA, CREDIT, FIN, RESET };

/* ---- allocations that fail ---- */

static long fail_in = -1; /* so many allocations succeed, then one fails */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);

void *__wrap_malloc(size_t n)
{
	return fail_in >= 0 && fail_in-- == 0 ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fail_in >= 0 && fail_in-- == 0 ? NULL : __real_calloc(n, m);
}

/* ---- an owner of streams that writes down what happens ---- */

enum event { NEVER, ON_INCOMING, ON_OPENED, ON_DATA, ON_WRITABLE, ON_ENDED };

struct side;

struct user {
	struct side *side;
	struct stream *s;
	enum event reset_on, finish_on;
	bool hold; /* does not give credit back */
	bool did_reset;
	int opened, writable, ended, closed, error;
	size_t got, to_send, sent;
	uint8_t last[16]; /* the first bytes received */
};

struct side {
	struct mux *m;
	struct user users[2100];
	unsigned int n_users;
	int hellos, refuse;
	uint32_t features, port;
	enum event reset_on, finish_on; /* for incoming streams */
	bool hold;
};

static void act(struct user *u, enum event now)
{
	if (u->finish_on == now)
		mux_finish(u->s);
	if (u->reset_on == now) {
		mux_reset(u->s, -EOWNERDEAD);
		u->did_reset = true;
		u->s = NULL;
	}
}

static void send_more(struct user *u)
{
	static uint8_t pattern[251 * 256];
	size_t n, k;

	if (!pattern[1])
		for (size_t i = 0; i < sizeof(pattern); i++)
			pattern[i] = (uint8_t)(i % 251);
	while (u->s && u->sent < u->to_send) {
		n = u->to_send - u->sent;
		k = sizeof(pattern) - u->sent % 251;
		n = n < k ? n : k;
		k = mux_write(u->s, pattern + u->sent % 251, n);
		u->sent += k;
		if (k < n)
			break;
	}
}

static void on_opened(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert_ptr_equal(u->s, s);
	u->opened++;
	act(u, ON_OPENED);
}

static void on_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct user *u = ctx;

	assert_ptr_equal(u->s, s);
	assert_true(n > 0);
	for (size_t i = 0; i < n && u->got + i < sizeof(u->last); i++)
		u->last[u->got + i] = p[i];
	u->got += n;
	if (!u->hold)
		mux_consumed(s, n);
	act(u, ON_DATA);
}

static void on_data_checked(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct user *u = ctx;

	for (size_t i = 0; i < n; i++)
		if (p[i] != (u->got + i) % 251)
			fail_msg("byte %zu is %d", u->got + i, p[i]);
	on_data(ctx, s, p, n);
}

static void on_writable(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	u->writable++;
	assert_true(mux_room(s) > 0);
	send_more(u);
	act(u, ON_WRITABLE);
}

static void on_ended(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	u->ended++;
	act(u, ON_ENDED);
}

static void on_closed(void *ctx, struct stream *s, int error)
{
	struct user *u = ctx;

	assert_ptr_equal(u->s, s);
	u->closed++;
	u->error = error;
	u->s = NULL;
}

static const struct stream_events plain = {
	on_opened, on_data, on_writable, on_ended, on_closed,
};
static const struct stream_events checked = {
	on_opened, on_data_checked, on_writable, on_ended, on_closed,
};

static void on_hello(void *ctx, uint32_t features)
{
	struct side *side = ctx;

	side->hellos++;
	side->features = features;
}

static int on_incoming(void *ctx, struct stream *s, uint32_t port)
{
	struct side *side = ctx;
	struct user *u = &side->users[side->n_users];

	side->port = port;
	if (side->refuse)
		return side->refuse;
	*u = (struct user){ .side = side, .s = s, .hold = side->hold,
			    .reset_on = side->reset_on, .finish_on = side->finish_on };
	side->n_users++;
	mux_accept(s, &checked, u);
	act(u, ON_INCOMING);
	return 0;
}

static const struct mux_events mux_events = { on_hello, on_incoming };

static struct side *side_new(enum mux_side which)
{
	struct side *side = calloc(1, sizeof(*side));

	assert_non_null(side);
	side->m = mux_create(which, 0x55, &mux_events, side);
	assert_non_null(side->m);
	return side;
}

static void side_free(struct side *side)
{
	mux_destroy(side->m, -ESHUTDOWN);
	for (unsigned int i = 0; i < side->n_users; i++)
		assert_null(side->users[i].s);
	free(side);
}

static struct user *user_open(struct side *side, uint32_t port)
{
	struct user *u = &side->users[side->n_users++];

	*u = (struct user){ .side = side };
	u->s = mux_open(side->m, port, &checked, u);
	assert_non_null(u->s);
	return u;
}

/* Carry everything in both directions, in pieces of @piece bytes, until both are silent. */
static void settle_by(struct side *a, struct side *b, size_t piece)
{
	struct side *from = a, *to = b, *swap;
	uint8_t *p = malloc(piece);
	int quiet = 0;

	while (quiet < 2) {
		bool pending = mux_output_pending(from->m);
		size_t n = mux_output(from->m, p, piece);

		assert_true(n <= piece);
		assert_true(pending == (n > 0));
		assert_int_equal(mux_input(to->m, p, n, NULL), 0);
		quiet = n ? 0 : quiet + 1;
		swap = from, from = to, to = swap;
	}
	free(p);
}

static void settle(struct side *a, struct side *b)
{
	settle_by(a, b, 65536);
}

/* ---- a peer made of bytes ---- */

static size_t frame(uint8_t *p, uint8_t type, uint32_t id, size_t len)
{
	memset(p, 0, 8);
	p[0] = type;
	put_le16(p + 2, (uint16_t)len);
	put_le32(p + 4, id);
	return 8 + len;
}

static int feed(struct side *side, uint8_t type, uint32_t id, size_t len, uint32_t number)
{
	static uint8_t p[8 + 65536];

	memset(p, 0, sizeof(p));
	frame(p, type, id, len);
	if (type != DATA && len >= 4)
		put_le32(p + 8, number);
	return mux_input(side->m, p, 8 + len, NULL);
}

static size_t hello_frame(uint8_t *p, uint32_t version, uint32_t lowest, uint32_t window)
{
	size_t n = frame(p, HELLO, 0, 20);

	put_le32(p + 8, MAGIC);
	put_le32(p + 12, version);
	put_le32(p + 16, lowest);
	put_le32(p + 20, 0xabc);
	put_le32(p + 24, window);
	return n;
}

static int feed_hello(struct side *side, uint32_t window)
{
	uint8_t p[28];

	return mux_input(side->m, p, hello_frame(p, 1, 1, window), NULL);
}

/* A host that has exchanged greetings, and whose greeting has been read. */
static struct side *greeted(void)
{
	struct side *side = side_new(MUX_HOST);
	uint8_t p[64];

	assert_int_equal(feed_hello(side, MUX_WINDOW), 0);
	assert_int_equal(mux_output(side->m, p, sizeof(p)), 28);
	return side;
}

/* Take one frame out; asserts its type. Return: payload length. */
static size_t expect(struct side *side, uint8_t type, uint32_t id, uint32_t number)
{
	static uint8_t p[8 + MUX_PAYLOAD_MAX];
	size_t n = mux_output(side->m, p, sizeof(p));

	assert_true(n >= 8);
	assert_int_equal(p[0], type);
	assert_int_equal(p[1], 0);
	assert_int_equal(get_le32(p + 4), id);
	assert_int_equal(n, 8u + get_le16(p + 2));
	if (type != DATA && n == 12)
		assert_int_equal(get_le32(p + 8), number);
	return n - 8;
}

/* ---- tests: greeting ---- */

static void hello(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	uint8_t p[64];

	assert_true(mux_output_pending(host->m));
	assert_int_equal(mux_output(host->m, p, sizeof(p)), 28);
	assert_int_equal(get_le32(p + 8), MAGIC);
	assert_int_equal(get_le32(p + 12), MUX_VERSION);
	assert_false(mux_output_pending(host->m));
	assert_int_equal(mux_input(guest->m, p, 28, NULL), 0);
	assert_int_equal(guest->hellos, 1);
	assert_int_equal(guest->features, 0x55);
	settle(guest, host);
	assert_int_equal(host->hellos, 1);
	assert_int_equal(feed_hello(host, MUX_WINDOW), -EPROTO);
	assert_int_equal(host->hellos, 1);
	side_free(host);
	side_free(guest);
}

static void hello_mismatch(void **state)
{
	static const struct {
		uint32_t version, lowest, window;
		int rc;
	} cases[] = {
		{ 7, 1, MUX_WINDOW, 0 },
		{ 7, 2, MUX_WINDOW, -EPROTONOSUPPORT },
		{ 0, 0, MUX_WINDOW, -EPROTONOSUPPORT },
		{ 1, 1, MUX_WINDOW_MAX, 0 },
		{ 1, 1, MUX_WINDOW_MAX + 1, -EPROTO },
		{ 1, 1, 0, 0 },
	};
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	uint8_t p[28];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct side *side = side_new(MUX_HOST);
		size_t n = hello_frame(p, cases[i].version, cases[i].lowest, cases[i].window);

		assert_int_equal(mux_input(side->m, p, n, &err), cases[i].rc);
		assert_int_equal(side->hellos, cases[i].rc == 0);
		if (cases[i].rc) {
			assert_int_equal(err.code, -cases[i].rc);
			assert_true(err.message[0]);
			assert_int_equal(feed_hello(side, MUX_WINDOW), -EPROTO);
			assert_null(mux_open(side->m, 1, &plain, NULL));
		}
		side_free(side);
	}
}

static void hello_malformed(void **state)
{
	uint8_t p[28];

	for (int i = 0; i < 12; i++) { /* type, reserved, length, stream, magic */
		struct side *side = side_new(MUX_GUEST);

		hello_frame(p, 1, 1, MUX_WINDOW);
		p[i] ^= 0x81;
		assert_int_equal(mux_input(side->m, p, sizeof(p), NULL), -EPROTO);
		assert_int_equal(side->hellos, 0);
		side_free(side);
	}
}

static void before_hello(void **state)
{
	static const struct {
		uint8_t type, len;
	} cases[] = {
		{ OPEN, 4 }, { OPENED, 0 }, { DATA, 1 }, { CREDIT, 4 }, { FIN, 0 }, { RESET, 4 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct side *side = side_new(MUX_HOST);

		assert_int_equal(feed(side, cases[i].type, 1, cases[i].len, 1), -EPROTO);
		assert_int_equal(side->n_users, 0);
		side_free(side);
	}
}

/* Streams opened and written before the peer says hello wait for its window. */
static void open_before_hello(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *u = user_open(host, 77);

	assert_int_equal(mux_write(u->s, "\0\1\2\3", 4), 4);
	mux_finish(u->s);
	settle(host, guest);
	assert_int_equal(guest->port, 77);
	assert_int_equal(guest->users[0].got, 4);
	assert_int_equal(guest->users[0].ended, 1);
	assert_int_equal(u->opened, 1);
	side_free(host);
	side_free(guest);
}

/* ---- tests: life of a stream ---- */

static void open_and_half_close(void **state)
{
	for (int guest_opens = 0; guest_opens < 2; guest_opens++) {
		for (int opener_first = 0; opener_first < 2; opener_first++) {
			struct side *a = side_new(guest_opens ? MUX_GUEST : MUX_HOST);
			struct side *b = side_new(guest_opens ? MUX_HOST : MUX_GUEST);
			struct user *u = user_open(a, 5), *v = &b->users[0];
			struct user *first = opener_first ? u : v, *last = opener_first ? v : u;

			settle(a, b);
			assert_int_equal(b->port, 5);
			assert_int_equal(u->opened, 1);
			first->to_send = last->to_send = 10;
			send_more(first);
			mux_finish(first->s);
			assert_int_equal(mux_write(first->s, "x", 1), 0);
			assert_int_equal(mux_room(first->s), 0);
			settle(a, b);
			assert_int_equal(last->got, 10);
			assert_int_equal(last->ended, 1);
			assert_int_equal(last->closed + first->closed, 0);
			assert_int_equal(mux_streams(a->m) + mux_streams(b->m), 2);
			send_more(last);
			mux_finish(last->s);
			settle(a, b);
			assert_int_equal(first->got, 10);
			assert_int_equal(first->ended, 1);
			assert_int_equal(first->closed + last->closed, 2);
			assert_int_equal(first->error | last->error, 0);
			assert_int_equal(mux_streams(a->m) + mux_streams(b->m), 0);
			side_free(a);
			side_free(b);
		}
	}
}

static void refused(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *u = user_open(host, 5);

	guest->refuse = -ECONNREFUSED;
	assert_int_equal(mux_write(u->s, "abc", 3), 3);
	settle(host, guest);
	assert_int_equal(u->closed, 1);
	assert_int_equal(u->error, -ECONNREFUSED);
	assert_int_equal(u->opened, 0);
	assert_int_equal(mux_streams(guest->m) + mux_streams(host->m), 0);
	side_free(host);
	side_free(guest);
}

static void reset_before_sent(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *u = user_open(host, 5), *v;

	mux_reset(u->s, -EINTR);
	u->s = NULL;
	v = user_open(host, 6);
	settle(host, guest);
	assert_int_equal(guest->n_users, 1);
	assert_int_equal(guest->port, 6);
	assert_int_equal(v->opened, 1);
	side_free(host);
	side_free(guest);
}

/* One side resets or finishes in one callback; the other hears of it once, and nothing is left. */
static void reset_in_callbacks(void **state)
{
	for (enum event mine = NEVER; mine <= ON_ENDED; mine++) {
		for (enum event theirs = NEVER; theirs <= ON_ENDED; theirs++) {
			struct side *a = side_new(MUX_HOST), *b = side_new(MUX_GUEST);
			struct user *u = user_open(a, 1), *v = &b->users[0];

			u->reset_on = mine;
			b->reset_on = theirs;
			u->to_send = BIG;
			send_more(u);
			for (int i = 0; i < 3; i++)
				settle(a, b);
			if (u->s)
				mux_finish(u->s);
			if (v->s) {
				v->to_send = BIG;
				send_more(v);
			}
			settle(a, b);
			if (v->s)
				mux_finish(v->s);
			settle(a, b);
			assert_null(u->s);
			assert_null(v->s);
			assert_int_equal(u->closed, !u->did_reset);
			assert_true(v->closed == !v->did_reset);
			assert_int_equal(u->error, v->did_reset && u->closed ? -EOWNERDEAD : 0);
			/* In ended(), both have said all: the reset has nobody to tell. */
			assert_int_equal(v->error, u->did_reset && v->closed && mine != ON_ENDED ?
					 -EOWNERDEAD : 0);
			assert_int_equal(mux_streams(a->m) + mux_streams(b->m), 0);
			assert_false(mux_output_pending(a->m) || mux_output_pending(b->m));
			side_free(a);
			side_free(b);
		}
	}
}

static void finish_in_callbacks(void **state)
{
	for (enum event e = ON_INCOMING; e <= ON_ENDED; e++) {
		struct side *a = side_new(MUX_HOST), *b = side_new(MUX_GUEST);
		struct user *u = user_open(a, 1);

		if (e == ON_WRITABLE)
			u->finish_on = e;
		b->finish_on = e;
		u->to_send = MUX_QUEUE_MAX + 1;
		send_more(u);
		settle(a, b);
		if (u->s)
			mux_finish(u->s);
		settle(a, b);
		if (b->users[0].s)
			mux_finish(b->users[0].s);
		settle(a, b);
		assert_int_equal(u->closed, 1);
		assert_int_equal(b->users[0].closed, 1);
		assert_int_equal(u->error, 0);
		side_free(a);
		side_free(b);
	}
}

static void reset_with_fin_under_way(void **state)
{
	struct side *side = greeted();

	/* It has ended and resets; the peer's end crosses the reset: all is said. */
	assert_int_equal(feed(side, OPEN, 1, 4, 9), 0);
	expect(side, OPENED, 1, 0);
	mux_finish(side->users[0].s);
	expect(side, FIN, 1, 0);
	mux_reset(side->users[0].s, -EPIPE);
	side->users[0].s = NULL;
	assert_int_equal(feed(side, FIN, 1, 0, 0), 0);
	assert_false(mux_output_pending(side->m));
	/* The same with a crossing reset. */
	assert_int_equal(feed(side, OPEN, 3, 4, 9), 0);
	mux_reset(side->users[1].s, -EPIPE);
	side->users[1].s = NULL;
	assert_int_equal(feed(side, RESET, 3, 4, EPIPE), 0);
	assert_false(mux_output_pending(side->m));
	/* Frames for both are late, and no failure. */
	assert_int_equal(feed(side, DATA, 1, 100, 0), 0);
	assert_int_equal(feed(side, CREDIT, 3, 4, 100), 0);
	assert_int_equal(feed(side, FIN, 3, 0, 0), 0);
	assert_int_equal(feed(side, RESET, 3, 4, 1), 0);
	side_free(side);
}

static void reset_errors(void **state)
{
	static const struct {
		uint32_t number;
		int error;
	} cases[] = { { EIO, -EIO }, { 0, -ECONNRESET }, { 4095, -4095 }, { 4096, -ECONNRESET },
		      { UINT32_MAX, -ECONNRESET }, { 0x80000000, -ECONNRESET } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct side *side = greeted();
		struct user *u = user_open(side, 1);

		expect(side, OPEN, 2, 1);
		assert_int_equal(feed(side, RESET, 2, 4, cases[i].number), 0);
		assert_int_equal(u->error, cases[i].error);
		side_free(side);
	}
}

static void destroy_with_streams(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *u = user_open(host, 1), *late;

	u->to_send = BIG;
	guest->hold = true;
	send_more(u);
	settle(host, guest);
	for (int i = 0; i < 200; i++)
		user_open(guest, 2);
	settle(host, guest);
	mux_reset(guest->users[7].s, -EIO);
	guest->users[7].s = NULL;
	late = user_open(host, 3);
	mux_destroy(host->m, -ENODEV);
	host->m = NULL;
	assert_int_equal(u->closed, 1);
	assert_int_equal(u->error, -ENODEV);
	assert_int_equal(late->closed, 1);
	side_free(host);
	side_free(guest);
	mux_destroy(NULL, 0);
}

/* ---- tests: windows ---- */

static void window_and_credit(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *u = user_open(host, 1), *v = &guest->users[0];

	guest->hold = true;
	u->to_send = BIG;
	send_more(u);
	assert_int_equal(u->sent, MUX_QUEUE_MAX);
	settle(host, guest);
	assert_int_equal(v->got, MUX_WINDOW);
	assert_int_equal(u->sent, MUX_WINDOW + MUX_QUEUE_MAX);
	assert_int_equal(mux_room(u->s), 0);
	/* Credit comes back in larger pieces, and exactly. */
	mux_consumed(v->s, 1000);
	assert_false(mux_output_pending(guest->m));
	mux_consumed(v->s, MUX_WINDOW / 4);
	settle(host, guest);
	assert_int_equal(v->got, MUX_WINDOW + MUX_WINDOW / 4 + 1000);
	mux_grant(v->s, 5);
	settle(host, guest);
	assert_int_equal(v->got, MUX_WINDOW + MUX_WINDOW / 4 + 1005);
	v->hold = false;
	mux_consumed(v->s, MUX_WINDOW);
	settle(host, guest);
	assert_int_equal(v->got, BIG);
	assert_true(u->writable > 0);
	side_free(host);
	side_free(guest);
}

static void too_much_data(void **state)
{
	struct side *side = greeted();
	size_t left = MUX_WINDOW;

	side->hold = true;
	assert_int_equal(feed(side, OPEN, 1, 4, 9), 0);
	side->users[0].hold = true;
	for (size_t n; left; left -= n) {
		uint8_t p[8 + 251 * 100];
		size_t got = MUX_WINDOW - left;

		n = left < 251 * 100 ? left : 251 * 100;
		for (size_t i = 0; i < n; i++)
			p[8 + i] = (uint8_t)((got + i) % 251);
		frame(p, DATA, 1, n);
		assert_int_equal(mux_input(side->m, p, 8 + n, NULL), 0);
	}
	assert_int_equal(side->users[0].got, MUX_WINDOW);
	assert_int_equal(feed(side, DATA, 1, 1, 0), -EPROTO);
	assert_int_equal(side->users[0].got, MUX_WINDOW);
	side_free(side);
}

static void credit_out_of_range(void **state)
{
	static const uint32_t bad[] = { UINT32_MAX, MUX_WINDOW_MAX + 1, MUX_WINDOW_MAX,
					MUX_WINDOW_MAX - MUX_WINDOW + 1 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct side *side = greeted();

		assert_int_equal(feed(side, OPEN, 1, 4, 9), 0);
		assert_int_equal(feed(side, CREDIT, 1, 4, bad[i]), -EPROTO);
		side_free(side);
	}
}

static void slow_stream_alone(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	struct user *slow, *fast;

	slow = user_open(host, 1);
	settle(host, guest);
	guest->users[0].hold = true;
	fast = user_open(host, 2);
	slow->to_send = fast->to_send = 8 * BIG;
	send_more(slow);
	send_more(fast);
	settle(host, guest);
	assert_int_equal(guest->users[0].got, MUX_WINDOW);
	assert_int_equal(guest->users[1].got, 8 * BIG);
	guest->users[0].hold = false;
	mux_consumed(guest->users[0].s, MUX_WINDOW);
	settle(host, guest);
	assert_int_equal(guest->users[0].got, 8 * BIG);
	side_free(host);
	side_free(guest);
}

/* Sixteen streams with endless data: at no time is one more than two turns ahead of another. */
static void fairness(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	static uint8_t p[100000];

	settle(host, guest);
	for (int i = 0; i < 16; i++) {
		struct user *u = user_open(host, 1);

		u->to_send = 64 * BIG;
		send_more(u);
	}
	for (int round = 0; round < 300; round++) {
		size_t least = SIZE_MAX, most = 0, n;

		n = mux_output(host->m, p, sizeof(p));
		assert_true(n > 0);
		assert_int_equal(mux_input(guest->m, p, n, NULL), 0);
		n = mux_output(guest->m, p, sizeof(p));
		assert_int_equal(mux_input(host->m, p, n, NULL), 0);
		for (unsigned int i = 0; i < 16; i++) {
			size_t got = guest->users[i].got;

			least = got < least ? got : least;
			most = got > most ? got : most;
		}
		assert_true(most - least <= 4 * (size_t)MUX_PAYLOAD_MAX);
	}
	assert_true(guest->users[0].got > BIG);
	side_free(host);
	side_free(guest);
}

/* ---- tests: hostile peers ---- */

static void flood_of_opens(void **state)
{
	struct side *host = side_new(MUX_HOST);
	uint8_t *p = malloc(10000 * 12);
	size_t n = 0;

	assert_int_equal(feed_hello(host, MUX_WINDOW), 0);
	host->refuse = -ECONNREFUSED;
	for (uint32_t i = 0; i < 10000; i++) {
		frame(p + n, OPEN, 2 * i + 1, 4);
		put_le32(p + n + 8, i);
		n += 12;
	}
	assert_int_equal(mux_input(host->m, p, n, NULL), -EPROTO);
	assert_int_equal(host->port, MUX_STREAMS_MAX - 1);
	assert_int_equal(mux_streams(host->m), 0);
	free(p);
	side_free(host);
}

/* As many streams as are allowed, refused and opened anew for ever, break nothing. */
static void many_streams(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	unsigned int i;

	for (int round = 0; round < 3; round++) {
		host->refuse = round < 2 ? -EACCES : 0;
		guest->n_users = 0;
		for (i = 0; i < MUX_STREAMS_MAX; i++)
			user_open(guest, i);
		assert_null(mux_open(guest->m, 1, &plain, NULL));
		assert_int_equal(errno, EMFILE);
		settle(guest, host);
		for (i = 0; i < MUX_STREAMS_MAX; i++)
			assert_int_equal(guest->users[i].error, round < 2 ? -EACCES : 0);
	}
	assert_int_equal(mux_streams(host->m), MUX_STREAMS_MAX);
	for (i = 0; i < MUX_STREAMS_MAX; i++) {
		mux_reset(guest->users[i].s, -EIO);
		guest->users[i].s = NULL;
	}
	assert_null(mux_open(guest->m, 1, &plain, NULL)); /* until the resets are written */
	settle(guest, host);
	assert_int_equal(mux_streams(host->m), 0);
	user_open(guest, 1);
	settle(guest, host);
	assert_int_equal(mux_streams(host->m), 1);
	side_free(host);
	side_free(guest);
}

static void broken_protocol(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t id;
		uint16_t len;
		uint32_t number;
	} cases[] = {
		{ OPEN, 1, 4, 0 },   /* in use */
		{ OPEN, 2, 4, 0 },   /* the host's number */
		{ OPEN, 4, 4, 0 },
		{ OPEN, 0, 4, 0 },
		{ FIN, 7, 0, 0 },    /* closed before */
		{ DATA, 7, 1, 0 },
		{ DATA, 9, 1, 0 },   /* never opened */
		{ CREDIT, 9, 4, 1 },
		{ FIN, 6, 0, 0 },
		{ RESET, 6, 4, 1 },
		{ DATA, 2, 1, 0 },   /* not accepted yet */
		{ CREDIT, 2, 4, 1 },
		{ FIN, 2, 0, 0 },
		{ RESET, 4, 4, 1 },  /* not announced yet */
		{ OPENED, 4, 0, 0 },
		{ OPENED, 1, 0, 0 }, /* the guest's own */
		{ DATA, 1, 0, 0 },
		{ DATA, 1, MUX_PAYLOAD_MAX + 1, 0 },
		{ FIN, 1, 1, 0 },
		{ OPEN, 9, 5, 0 },
		{ CREDIT, 1, 3, 0 },
		{ 0, 1, 0, 0 },
		{ 8, 1, 0, 0 },
		{ 255, 1, 0, 0 },
		{ HELLO, 0, 20, MAGIC },
		{ DATA, 5, 1, 0 },   /* after its end */
		{ FIN, 5, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct side *side = greeted();
		bool late = cases[i].id == 7;

		user_open(side, 1);
		expect(side, OPEN, 2, 1);
		user_open(side, 1);
		assert_int_equal(feed(side, OPEN, 1, 4, 9), 0);
		assert_int_equal(feed(side, OPEN, 5, 4, 9), 0);
		assert_int_equal(feed(side, FIN, 5, 0, 0), 0);
		assert_int_equal(feed(side, OPEN, 7, 4, 9), 0);
		assert_int_equal(feed(side, RESET, 7, 4, 9), 0);
		assert_int_equal(feed(side, cases[i].type, cases[i].id, cases[i].len,
				      cases[i].number), late ? 0 : -EPROTO);
		assert_int_equal(feed(side, FIN, 1, 0, 0), late ? 0 : -EPROTO);
		side_free(side);
	}
}

static void accepted_twice(void **state)
{
	struct side *side = greeted();
	struct user *u = user_open(side, 1);

	expect(side, OPEN, 2, 1);
	assert_int_equal(feed(side, OPENED, 2, 0, 0), 0);
	assert_int_equal(feed(side, OPENED, 2, 0, 0), -EPROTO);
	assert_int_equal(u->opened, 1);
	side_free(side);
}

/* ---- tests: pieces ---- */

static void any_output_size(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 20, 27, 28, 29, 40, 100,
					 1031, 1032, 1033, 4096, 32767, 32768, 70000 };

	for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++) {
		struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
		size_t total = pieces[k] < 40 ? 20000 : BIG;

		guest->finish_on = ON_ENDED;
		for (int i = 0; i < 3; i++) {
			struct user *u = user_open(host, 1);

			u->to_send = total;
			send_more(u);
		}
		settle_by(host, guest, pieces[k]);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(guest->users[i].got, total);
			assert_int_equal(host->users[i].opened, 1);
			mux_finish(host->users[i].s);
		}
		settle_by(host, guest, pieces[k]);
		for (int i = 0; i < 3; i++)
			assert_int_equal(host->users[i].closed + guest->users[i].closed, 2);
		side_free(host);
		side_free(guest);
	}
}

/* Room for less than an OPEN at the buffer's end does not change the order of the OPENs. */
static void opens_stay_in_order(void **state)
{
	for (size_t cap = 29; cap < 80; cap++) {
		struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);

		settle(host, guest);
		for (int i = 0; i < 20; i++)
			user_open(host, 1);
		settle_by(host, guest, cap);
		assert_int_equal(guest->n_users, 20);
		side_free(host);
		side_free(guest);
	}
}

static void no_crumbs(void **state)
{
	struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
	static uint8_t p[MUX_PAYLOAD_MAX + 8 + 500];

	settle(host, guest);
	for (int i = 0; i < 2; i++) {
		struct user *u = user_open(host, 1);

		u->to_send = MUX_QUEUE_MAX;
		settle(host, guest);
		send_more(u);
	}
	assert_int_equal(mux_output(host->m, p, sizeof(p)), MUX_PAYLOAD_MAX + 8);
	side_free(host);
	side_free(guest);
}

/* ---- tests: memory ---- */

static void write_without_memory(void **state)
{
	for (int before = 0; before < 2; before++) {
		struct side *host = side_new(MUX_HOST), *guest = side_new(MUX_GUEST);
		struct user *u = user_open(host, 1);

		if (before)
			settle(host, guest);
		fail_in = 0;
		assert_int_equal(mux_write(u->s, "abc", 3), 0);
		fail_in = -1;
		settle(host, guest);
		assert_int_equal(u->closed, 1);
		assert_int_equal(u->error, -ENOMEM);
		assert_int_equal(guest->users[0].error, -ENOMEM);
		assert_int_equal(mux_streams(host->m) + mux_streams(guest->m), 0);
		side_free(host);
		side_free(guest);
	}
}

static void open_without_memory(void **state)
{
	struct side *side = greeted();
	uint8_t p[12];

	fail_in = 0;
	assert_null(mux_create(MUX_HOST, 0, &mux_events, NULL));
	fail_in = 0;
	assert_null(mux_open(side->m, 1, &plain, NULL));
	assert_int_equal(errno, ENOMEM);
	user_open(side, 1);
	expect(side, OPEN, 2, 1);
	frame(p, OPEN, 1, 4);
	put_le32(p + 8, 1);
	fail_in = 0;
	assert_int_equal(mux_input(side->m, p, 12, NULL), -ENOMEM);
	fail_in = -1;
	assert_int_equal(mux_input(side->m, p, 12, NULL), -EPROTO);
	side_free(side);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello), cmocka_unit_test(hello_mismatch),
		cmocka_unit_test(hello_malformed), cmocka_unit_test(before_hello),
		cmocka_unit_test(open_before_hello), cmocka_unit_test(open_and_half_close),
		cmocka_unit_test(refused), cmocka_unit_test(reset_before_sent),
		cmocka_unit_test(reset_in_callbacks), cmocka_unit_test(finish_in_callbacks),
		cmocka_unit_test(reset_with_fin_under_way), cmocka_unit_test(reset_errors),
		cmocka_unit_test(destroy_with_streams), cmocka_unit_test(window_and_credit),
		cmocka_unit_test(too_much_data), cmocka_unit_test(credit_out_of_range),
		cmocka_unit_test(slow_stream_alone), cmocka_unit_test(fairness),
		cmocka_unit_test(flood_of_opens), cmocka_unit_test(many_streams),
		cmocka_unit_test(broken_protocol), cmocka_unit_test(accepted_twice),
		cmocka_unit_test(any_output_size), cmocka_unit_test(opens_stay_in_order),
		cmocka_unit_test(no_crumbs), cmocka_unit_test(write_without_memory),
		cmocka_unit_test(open_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
