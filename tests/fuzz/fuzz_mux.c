/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over one channel, in two modes that the first byte chooses.
 *
 * Even: the rest is what a peer sends, cut into pieces, while callbacks consume, write, finish and
 * reset by a counter. Odd: the rest is a script that drives two connected sides. Then bytes arrive
 * in order and complete, what is sent stays within windows and queues, and once the script is over
 * and every owner reads and finishes, everything arrives and every stream ends.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "proto/mux.h"

#define USERS 24
#define PIPE  (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct side;

/* The owner of a stream; bytes on a stream count up from its port, so that both ends know them. */
struct user {
	struct side *side;
	struct stream *s;
	uint8_t port;
	bool finished, ended, was_reset, opened, mine, short_write;
	size_t sent, got, unread;
	size_t granted; /* beyond the first window */
	struct user *other;
};

struct side {
	struct mux *m;
	struct side *other;
	struct user users[USERS];
	unsigned int n_users, hellos;
	uint32_t dice; /* what callbacks do; 0: nothing, the script does it all */
	bool raw;
	uint8_t pipe[PIPE]; /* bytes on their way to the other side */
	size_t pipe_len;
};

static unsigned int roll(struct side *side)
{
	if (!side->dice)
		return 255;
	side->dice = side->dice * 1664525u + 1013904223u;
	return side->dice >> 24;
}

static void forget(struct user *u)
{
	u->s = NULL;
}

static void reset(struct user *u)
{
	u->was_reset = true;
	mux_reset(u->s, -EINTR);
	forget(u);
}

static void finish(struct user *u)
{
	if (u->s && !u->finished)
		mux_finish(u->s);
	u->finished = true;
}

/* What stream @u carries from byte @at on, 64 KiB of it. */
static const uint8_t *pattern(const struct user *u, size_t at)
{
	static uint8_t bytes[256 + 65536];

	if (!bytes[1])
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)i;
	return bytes + (uint8_t)(u->port + at);
}

static void send_bytes(struct user *u, size_t n)
{
	size_t taken;

	if (!u->s || u->finished)
		return;
	n = n < 65536 ? n : 65536;
	taken = mux_write(u->s, pattern(u, u->sent), n);
	assert(taken <= n);
	u->sent += taken;
	u->short_write |= taken < n;
	if (!u->side->raw && u->other) /* queue and window are all that can be under way */
		assert(u->sent <= u->other->got + u->other->granted + MUX_WINDOW + MUX_QUEUE_MAX);
}

static void act(struct user *u)
{
	unsigned int n = roll(u->side);

	if (n < 8)
		reset(u);
	else if (n < 20)
		finish(u);
	else if (n < 80)
		send_bytes(u, n * n);
	else if (n < 90 && !u->finished)
		mux_room(u->s);
}

static void on_opened(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert(u->s == s && u->mine && !u->opened);
	u->opened = true;
	act(u);
}

static void on_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct user *u = ctx;

	assert(u->s == s && n > 0 && !u->ended);
	if (!u->side->raw)
		assert(n <= MUX_PAYLOAD_MAX && memcmp(p, pattern(u, u->got), n) == 0);
	u->got += n;
	u->unread += n;
	assert(u->unread <= MUX_WINDOW + u->granted);
	if (u->side->dice && roll(u->side) >= 64) {
		mux_consumed(s, u->unread);
		u->unread = 0;
	}
	act(u);
}

static void on_writable(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert(u->s == s && u->short_write && !u->finished);
	u->short_write = false;
	assert(mux_room(s) > 0);
	act(u);
}

static void on_ended(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert(u->s == s && !u->ended);
	u->ended = true;
	if (!u->side->raw) {
		assert(u->other->finished);
		assert(u->got == u->other->sent);
	}
	act(u);
}

static void on_closed(void *ctx, struct stream *s, int error)
{
	struct user *u = ctx;

	assert(u->s == s);
	if (error == 0)
		assert(u->ended && u->finished);
	else if (!u->side->raw && error != -ESHUTDOWN)
		assert(u->other ? u->other->was_reset : error == -ECONNREFUSED);
	forget(u);
}

static const struct stream_events stream_events = {
	on_opened, on_data, on_writable, on_ended, on_closed,
};

static void on_hello(void *ctx, uint32_t features)
{
	struct side *side = ctx;

	assert(side->hellos++ == 0);
}

static struct user *new_user(struct side *side)
{
	return side->n_users < USERS ? &side->users[side->n_users++] : NULL;
}

static int on_incoming(void *ctx, struct stream *s, uint32_t port)
{
	struct side *side = ctx;
	struct user *u = roll(side) < 16 ? NULL : new_user(side);

	assert(side->hellos == 1);
	if (!u)
		return -ECONNREFUSED;
	*u = (struct user){ .side = side, .s = s, .port = (uint8_t)port };
	if (!side->raw) {
		u->other = &side->other->users[port];
		u->other->other = u;
		u->port = (uint8_t)port;
	}
	mux_accept(s, &stream_events, u);
	act(u);
	return 0;
}

static const struct mux_events mux_events = { on_hello, on_incoming };

static void open_stream(struct side *side)
{
	struct user *u = new_user(side);

	if (!u)
		return;
	*u = (struct user){ .side = side, .port = (uint8_t)(u - side->users), .mine = true };
	u->s = mux_open(side->m, u->port, &stream_events, u);
	if (!u->s)
		side->n_users--;
}

static void init_side(struct side *side, enum mux_side which, struct side *other)
{
	memset(side, 0, offsetof(struct side, pipe));
	side->pipe_len = 0;
	side->m = mux_create(which, 0, &mux_events, side);
	side->other = other;
	assert(side->m);
}

static void user_does(struct user *u, unsigned int op, unsigned int arg)
{
	if (!u->s)
		return;
	switch (op) {
	case 0:
		send_bytes(u, (size_t)arg * arg);
		break;
	case 1:
		finish(u);
		break;
	case 2:
		if (arg < 64)
			reset(u);
		break;
	case 3:
		if (u->unread)
			mux_consumed(u->s, u->unread);
		u->unread = 0;
		break;
	case 4:
		if (u->granted < MUX_WINDOW) {
			u->granted += arg;
			mux_grant(u->s, arg);
		}
		break;
	default:
		if (mux_room(u->s) == 0)
			u->short_write = true;
	}
}

/* ---- what a peer may send ---- */

static void raw(const uint8_t *data, size_t size)
{
	static struct side host;
	static uint8_t out[4096];
	uint8_t hello[28] = { 1, 0, 20, 0, 0, 0, 0, 0, 'S', 'M', 'V', 'M', 1, 0, 0, 0, 1, 0, 0, 0 };
	int rc = 0;

	init_side(&host, MUX_HOST, NULL);
	host.raw = true;
	host.dice = data[0] | 1u;
	put_le32(hello + 24, 4096);
	if (data[0] & 2)
		rc = mux_input(host.m, hello, sizeof(hello), NULL);
	open_stream(&host);
	open_stream(&host);
	data++, size--;
	while (rc == 0 && size > 0) {
		size_t piece = 1 + roll(&host) % 64, n;
		unsigned int dice = roll(&host);

		piece = piece < size ? piece : size;
		rc = mux_input(host.m, data, piece, NULL);
		data += piece;
		size -= piece;
		if (dice < 192) {
			bool pending = mux_output_pending(host.m);

			n = mux_output(host.m, out, 1 + dice * 16);
			assert(n <= 1 + dice * 16 && (n > 0) == pending);
		}
		if (host.n_users)
			user_does(&host.users[dice % host.n_users], dice / 32, dice);
		assert(mux_streams(host.m) <= 2 * USERS);
	}
	mux_destroy(host.m, -ESHUTDOWN);
	for (unsigned int i = 0; i < host.n_users; i++)
		assert(!host.users[i].s);
}

/* ---- two sides and a script ---- */

static void carry_out(struct side *side, size_t cap)
{
	size_t room = PIPE - side->pipe_len;
	bool pending = mux_output_pending(side->m);
	size_t n;

	cap = cap < room ? cap : room;
	n = mux_output(side->m, side->pipe + side->pipe_len, cap);
	assert(n <= cap && (n > 0) == (pending && cap > 0));
	side->pipe_len += n;
}

static void carry_in(struct side *side, size_t n)
{
	n = n < side->pipe_len ? n : side->pipe_len;
	assert(mux_input(side->other->m, side->pipe, n, NULL) == 0);
	side->pipe_len -= n;
	memmove(side->pipe, side->pipe + n, side->pipe_len);
}

/*
 * Both sides run and read, and end their streams if @ends: everything on the way arrives, in a
 * bounded number of rounds.
 */
static void drain(struct side *sides, bool ends)
{
	int rounds = 0;

	for (;;) {
		bool busy = false;

		for (int i = 0; i < 2; i++) {
			struct side *side = &sides[i];

			for (unsigned int k = 0; k < side->n_users; k++) {
				user_does(&side->users[k], 3, 0);
				if (ends)
					finish(&side->users[k]);
			}
			carry_out(side, PIPE);
			busy |= side->pipe_len > 0 || mux_output_pending(side->m);
			carry_in(side, PIPE);
		}
		if (!busy)
			break;
		assert(++rounds < 10000);
	}
	for (int i = 0; i < 2; i++) {
		assert(!ends || mux_streams(sides[i].m) == 0);
		for (unsigned int k = 0; k < sides[i].n_users; k++) {
			struct user *u = &sides[i].users[k];

			assert(!ends || !u->s);
			assert(!u->s || u->sent == u->other->got);
			assert(!u->s || u->finished || !u->short_write);
		}
	}
}

static void script(const uint8_t *data, size_t size)
{
	static struct side sides[2];

	init_side(&sides[0], MUX_HOST, &sides[1]);
	init_side(&sides[1], MUX_GUEST, &sides[0]);
	if (data[0] & 2)
		sides[0].dice = sides[1].dice = data[0];
	for (data++, size--; size >= 2; data += 2, size -= 2) {
		struct side *side = &sides[data[0] & 1];
		unsigned int op = data[0] >> 1 & 15, who = data[0] >> 5, arg = data[1];

		switch (op) {
		case 0:
			open_stream(side);
			break;
		case 1:
			carry_out(side, arg);
			break;
		case 2:
			carry_out(side, (size_t)arg << 8);
			break;
		case 3:
			carry_in(side, arg);
			break;
		case 4:
			carry_in(side, (size_t)arg << 8);
			break;
		default:
			if (side->n_users)
				user_does(&side->users[(who + arg) % side->n_users], op - 5, arg);
		}
	}
	sides[0].dice = sides[1].dice = 0;
	if (!(data[-1] & 1)) { /* otherwise: ended in the middle of it all */
		drain(sides, false);
		drain(sides, true);
	}
	mux_destroy(sides[0].m, -ESHUTDOWN);
	mux_destroy(sides[1].m, -ESHUTDOWN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] & 1)
		script(data, size);
	else
		raw(data, size);
	return 0;
}
