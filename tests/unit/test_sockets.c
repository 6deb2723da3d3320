/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of streams over sockets, over pairs of them within one process and one loop. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "proto/sockets.h"

#define GUARD_MS 20000

static struct loop *loop;
static struct sockets *set;
static unsigned int sends, waits;
static bool no_memory, tearing_down, swallow;

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t n = 0;

	sends++;
	if (!swallow)
		return __real_sendmsg(fd, m, flags);
	for (size_t i = 0; i < m->msg_iovlen; i++)
		n += (ssize_t)m->msg_iov[i].iov_len;
	return n;
}

int __real_epoll_wait(int fd, struct epoll_event *ev, int n, int ms);
int __wrap_epoll_wait(int fd, struct epoll_event *ev, int n, int ms);
int __wrap_epoll_wait(int fd, struct epoll_event *ev, int n, int ms)
{
	waits++;
	sends = 0;
	return __real_epoll_wait(fd, ev, n, ms);
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return no_memory ? NULL : __real_malloc(n);
}

/**
 * struct user - the owner of a stream.
 * @to_send: bytes of the pattern still to be written; then the stream is finished.
 * @keep:    nothing is consumed.
 * @echo:    what comes goes back.
 * @on_*:    called in place of what the event does otherwise.
 */
struct user {
	struct stream *s;
	size_t to_send, sent, got;
	bool keep, echo, hold, finishes, ended, opened, closed;
	int error;
	unsigned int writables;
	void (*on_data)(struct user *u);
	void (*on_ended)(struct user *u);
	void (*on_writable)(struct user *u);
	void (*on_closed)(struct user *u);
	struct user *other;
};

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at % 251);
}

static void send_more(struct user *u)
{
	static uint8_t piece[100000];

	while (u->to_send) {
		size_t n = u->to_send < sizeof(piece) ? u->to_send : sizeof(piece);
		size_t k;

		n = n > 5000 && u->sent % 3 ? n / 77 : n; /* large and small ones */
		for (size_t i = 0; i < n; i++)
			piece[i] = pattern(u->sent + i);
		k = stream_write(u->s, piece, n);
		assert_true(k <= n);
		u->sent += k;
		u->to_send -= k;
		if (k < n)
			return;
	}
	if (u->finishes)
		stream_finish(u->s);
}

static void on_opened(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert_ptr_equal(u->s, s);
	assert_false(u->opened);
	u->opened = true;
}

static void on_data(void *ctx, struct stream *s, const uint8_t *p, size_t n)
{
	struct user *u = ctx;

	assert_ptr_equal(u->s, s);
	assert_true(n > 0 && !u->ended);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(p[i], pattern(u->got + i));
	u->got += n;
	if (u->on_data) {
		u->on_data(u);
		return;
	}
	if (u->echo)
		assert_int_equal(stream_write(s, p, n), n);
	if (!u->keep)
		stream_consumed(s, n);
}

static void on_writable(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	u->writables++;
	if (u->on_writable) {
		u->on_writable(u);
		return;
	}
	assert_true(stream_room(s) > 0);
	send_more(u);
}

static void on_ended(void *ctx, struct stream *s)
{
	struct user *u = ctx;

	assert_false(u->ended);
	u->ended = true;
	if (u->on_ended)
		u->on_ended(u);
	else if (!u->hold)
		stream_finish(s);
}

static void on_closed(void *ctx, struct stream *s, int error)
{
	struct user *u = ctx;

	if (tearing_down) /* its owner is gone */
		return;
	assert_ptr_equal(u->s, s);
	assert_false(u->closed);
	u->closed = true;
	u->error = error;
	u->s = NULL;
	if (u->on_closed)
		u->on_closed(u);
	loop_stop(loop, 0);
}

static const struct stream_events events = {
	on_opened, on_data, on_writable, on_ended, on_closed,
};

static void add(struct user *u, int fd)
{
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	u->s = sockets_add(set, fd, false);
	assert_non_null(u->s);
	stream_accept(u->s, &events, u);
}

/* Return: the other end, non-blocking. */
static int add_raw(struct user *u)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(fd_set_nonblock(fds[1], 1), 0);
	add(u, fds[0]);
	return fds[1];
}

static void add_pair(struct user *a, struct user *b)
{
	add(b, add_raw(a));
}

static void too_late(struct loop_timer *t)
{
	(void)t;
	fail_msg("nothing happens any more");
}

static void enough(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop, 0);
}

/* Until one stream more has been closed. */
static void run(void)
{
	struct loop_timer guard = { .fired = too_late };

	loop_arm(loop, &guard, GUARD_MS);
	assert_int_equal(loop_run(loop), 0);
	loop_cancel(loop, &guard);
}

/* Until nothing is ready. */
static void settle(void)
{
	struct loop_timer soon = { .fired = enough };

	loop_arm(loop, &soon, 20);
	do
		assert_int_equal(loop_run(loop), 0);
	while (soon.at_ms); /* a stream that was closed has stopped it earlier */
}

static int setup(void **state)
{
	(void)state;
	loop = loop_create();
	set = sockets_create(loop);
	sends = waits = 0;
	no_memory = tearing_down = swallow = false;
	return loop && set ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	tearing_down = true;
	sockets_destroy(set, -ESHUTDOWN);
	loop_destroy(loop);
	return 0;
}

/* ---- tests ---- */

static void everything_in_order(void **state)
{
	struct user a = { .to_send = 7000001, .finishes = true }, b = { .to_send = 3000017 };

	(void)state;
	b.finishes = true;
	b.hold = a.hold = true; /* both finish by themselves */
	add_pair(&a, &b);
	send_more(&a);
	send_more(&b);
	sockets_flush(set);
	while (!a.closed || !b.closed)
		run();
	assert_int_equal(b.got, 7000001);
	assert_int_equal(a.got, 3000017);
	assert_int_equal(a.error, 0);
	assert_int_equal(b.error, 0);
	assert_true(a.ended && b.ended && a.writables > 0);
	assert_int_equal(sockets_streams(set), 0);
}

static void a_window(void **state)
{
	struct user a = { .to_send = 2 * STREAM_WINDOW + 1000 }, b = { .keep = true };

	(void)state;
	add_pair(&a, &b);
	send_more(&a);
	sockets_flush(set);
	settle();
	assert_int_equal(b.got, STREAM_WINDOW);
	stream_consumed(b.s, 1000);
	sockets_flush(set);
	settle();
	assert_int_equal(b.got, STREAM_WINDOW + 1000);
	stream_grant(b.s, 5);
	stream_consumed(b.s, 7);
	sockets_flush(set);
	settle();
	assert_int_equal(b.got, STREAM_WINDOW + 1012);
	stream_consumed(b.s, STREAM_WINDOW);
	sockets_flush(set);
	settle();
	assert_int_equal(b.got, 2 * STREAM_WINDOW + 1000);
}

static void one_direction_ends_first(void **state)
{
	struct user a = { .hold = true }, b = { .hold = true };

	(void)state;
	add_pair(&a, &b);
	stream_finish(a.s);
	assert_int_equal(stream_write(a.s, "x", 1), 0);
	assert_int_equal(stream_room(a.s), 0);
	sockets_flush(set);
	settle();
	assert_true(b.ended && !b.closed && !a.ended);
	b.to_send = 500000;
	b.finishes = true;
	send_more(&b);
	sockets_flush(set);
	while (!a.closed || !b.closed)
		run();
	assert_int_equal(a.got, 500000);
	assert_int_equal(a.error | b.error, 0);
}

static void a_reset_loses_what_is_queued(void **state)
{
	struct user a = { 0 }, b = { .hold = true };

	(void)state;
	add_pair(&a, &b);
	stream_write(a.s, "\0\1\2", 3);
	stream_reset(a.s, -EIO);
	sockets_flush(set);
	assert_int_equal(sockets_streams(set), 1);
	settle();
	assert_int_equal(b.got, 0);
	assert_true(b.ended && !a.closed);
	stream_write(b.s, "\0\1\2", 3); /* nobody is there */
	sockets_flush(set);
	assert_true(b.closed);
	assert_int_equal(b.error, -EPIPE);
}

static void nobody_reads(void **state)
{
	struct user a = { .to_send = 10000000 };
	uint8_t bytes[65536];
	size_t got = 0;
	int fd = add_raw(&a);
	ssize_t n;

	(void)state;
	send_more(&a);
	sockets_flush(set);
	settle();
	assert_true(a.sent >= STREAM_QUEUE_MAX && a.sent < 2000000);
	assert_int_equal(stream_room(a.s), 0);
	waits = 0;
	settle();
	assert_true(waits < 5);
	for (;;) {
		n = read(fd, bytes, sizeof(bytes));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], pattern(got + (size_t)i));
		got += (size_t)n;
		if (got == 10000000)
			break;
		if (recv(fd, bytes, 1, MSG_PEEK) < 0)
			settle();
	}
	assert_int_equal(a.to_send, 0);
	close(fd);
}

static void few_system_calls(void **state)
{
	struct user a = { 0 };
	uint8_t bytes[65536] = { 0 };
	int fd = add_raw(&a);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(stream_write(a.s, bytes, 20), 20);
	sockets_flush(set);
	assert_int_equal(sends, 1);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 2000);
	sends = 0; /* what is small before what is large, together */
	assert_int_equal(stream_write(a.s, bytes, 20), 20);
	assert_int_equal(stream_write(a.s, bytes, 32768), 32768);
	assert_int_equal(sends, 1);
	sockets_flush(set);
	assert_int_equal(sends, 1);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), 32788);
	while (stream_write(a.s, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	sends = 0; /* it is full, and says when it is not any more */
	stream_write(a.s, bytes, sizeof(bytes));
	sockets_flush(set);
	sockets_flush(set);
	assert_int_equal(sends, 0);
	close(fd);
}

static void a_hang_up_is_not_told_for_ever(void **state)
{
	struct user a = { .keep = true, .hold = true }, b = { .hold = true };
	static uint8_t bytes[STREAM_WINDOW];
	size_t sent = 0;
	int fd = add_raw(&a), other = add_raw(&b);

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = pattern(i);
	while (sent < STREAM_WINDOW) { /* shut the window, with a byte more on its way */
		ssize_t n = write(fd, bytes + sent, STREAM_WINDOW - sent);

		sent += n > 0 ? (size_t)n : 0;
		settle();
	}
	assert_int_equal(write(fd, (uint8_t[]){ pattern(sent) }, 1), 1);
	close(fd);
	settle();
	close(other);
	settle();
	assert_true(b.ended && !b.closed && !a.ended);
	waits = 0;
	settle();
	assert_true(waits < 5);
	stream_consumed(a.s, 10);
	sockets_flush(set);
	settle();
	assert_int_equal(a.got, STREAM_WINDOW + 1);
	assert_true(a.ended && !a.closed);
	stream_finish(a.s);
	stream_finish(b.s);
	sockets_flush(set);
	assert_true(a.closed && b.closed);
	assert_int_equal(a.error | b.error, 0);
}

static void reset_self(struct user *u)
{
	stream_reset(u->s, -EIO);
	u->s = NULL;
	sockets_flush(set); /* waits for the one further up */
}

static void reset_both(struct user *u)
{
	if (u->other->s)
		reset_self(u->other);
	reset_self(u);
}

static void resets_in_callbacks(void **state)
{
	static const size_t at[] = { offsetof(struct user, on_data),
				     offsetof(struct user, on_ended),
				     offsetof(struct user, on_writable) };

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct user a = { .to_send = 3000000, .finishes = true };
		struct user b = { .hold = true, .other = &a };
		struct user c = { .to_send = 300000, .finishes = true };
		struct user d = { .hold = true };
		struct user *who = i / 2 == 2 ? &a : &b;
		void (*what)(struct user *) = i % 2 ? reset_both : reset_self;

		a.other = &b;
		memcpy((char *)who + at[i / 2], &what, sizeof(what));
		add_pair(&a, &b);
		add_pair(&c, &d);
		send_more(&a);
		send_more(&c);
		sockets_flush(set);
		while (!d.ended || who->s)
			settle();
		assert_int_equal(d.got, 300000);
		assert_null(who->s);
		assert_false(who->closed);
		stream_finish(d.s);
		sockets_flush(set);
		while (!c.closed || !d.closed)
			run();
		if (a.s)
			stream_reset(a.s, -EIO);
		if (b.s)
			stream_reset(b.s, -EIO);
		sockets_flush(set);
		assert_int_equal(sockets_streams(set), 0);
	}
}

static void finish_in_a_callback(void **state)
{
	struct user a = { 0 }, b = { .echo = true };
	uint8_t bytes[] = { 0, 1, 2, 3 };

	(void)state;
	add_pair(&a, &b);
	stream_write(a.s, bytes, sizeof(bytes));
	stream_finish(a.s);
	sockets_flush(set);
	while (!a.closed || !b.closed)
		run();
	assert_int_equal(a.got, 4);
	assert_int_equal(a.error | b.error, 0);
}

static int listener(struct sockaddr_in *sa)
{
	socklen_t len = sizeof(*sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*sa = (struct sockaddr_in){ .sin_family = AF_INET };
	sa->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)sa, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)sa, &len), 0);
	return fd;
}

static void connecting(struct user *u, const struct sockaddr_in *sa)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (const struct sockaddr *)sa, sizeof(*sa));

	assert_true(rc < 0 && errno == EINPROGRESS);
	u->s = sockets_add(set, fd, true);
	assert_non_null(u->s);
	stream_accept(u->s, &events, u);
}

static void connections(void **state)
{
	struct user a = { .to_send = 300000, .finishes = true }, b = { 0 }, c = { .to_send = 10 };
	struct sockaddr_in sa;
	int fd = listener(&sa), from;

	(void)state;
	connecting(&c, &sa);
	send_more(&c);
	sockets_flush(set);
	run();
	assert_int_equal(c.error, -ECONNREFUSED);
	assert_false(c.opened);
	assert_int_equal(listen(fd, 1), 0);
	connecting(&a, &sa);
	send_more(&a);
	assert_int_equal(a.sent, STREAM_QUEUE_MAX);
	sockets_flush(set);
	assert_int_equal(sends, 0);
	from = accept(fd, NULL, NULL);
	assert_true(from >= 0);
	add(&b, from);
	while (!a.closed || !b.closed)
		run();
	assert_true(a.opened && !b.opened);
	assert_int_equal(b.got, 300000);
	assert_int_equal(a.error | b.error, 0);
	close(fd);
}

static void many_streams(void **state)
{
	static struct user users[STREAMS_MAX];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct rlimit limit;

	(void)state;
	memset(users, 0, sizeof(users));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < STREAMS_MAX + 50) {
		limit.rlim_cur = STREAMS_MAX + 50;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			skip();
	}
	for (unsigned int i = 0; i < STREAMS_MAX; i += 2) {
		users[i].to_send = 1000 + i;
		users[i].finishes = true;
		add_pair(&users[i], &users[i + 1]);
		send_more(&users[i]);
	}
	assert_int_equal(sockets_streams(set), STREAMS_MAX);
	assert_null(sockets_add(set, fd, false));
	assert_int_equal(errno, EMFILE);
	assert_int_equal(close(fd), -1); /* done already */
	sockets_flush(set);
	while (sockets_streams(set))
		run();
	for (unsigned int i = 0; i < STREAMS_MAX; i += 2)
		assert_int_equal(users[i + 1].got, 1000 + i);
}

static void endless(struct user *u)
{
	u->to_send = 1000000;
	send_more(u);
}

static void everybody_has_a_turn(void **state)
{
	struct user a = { .on_writable = endless }, b = { 0 };
	struct user c = { .to_send = 3000000, .finishes = true }, d = { 0 };

	(void)state;
	add_pair(&a, &b);
	add_pair(&c, &d);
	endless(&a);
	send_more(&c);
	sockets_flush(set);
	while (!c.closed || !d.closed)
		run();
	assert_int_equal(d.got, 3000000);
	assert_true(b.got > 0);
}

static void refill(struct user *u)
{
	static const uint8_t bytes[STREAM_QUEUE_MAX];

	assert_true(sends < 100);
	for (unsigned int k = 1; k;) /* small ones, up to the queue's end */
		k = (unsigned int)stream_write(u->s, bytes, SOCKETS_DIRECT_MIN - 1);
}

static void a_turn_ends(void **state)
{
	struct user a = { .on_writable = refill };
	int fd = add_raw(&a);

	(void)state;
	swallow = true; /* there is always room */
	refill(&a);
	sockets_flush(set);
	assert_int_equal(a.writables, 1);
	sockets_flush(set);
	assert_int_equal(a.writables, 1); /* nothing has happened since */
	settle();
	assert_true(a.writables > 2);
	swallow = false;
	close(fd);
}

static void without_memory(void **state)
{
	struct user a = { 0 }, b = { .hold = true };

	(void)state;
	add_pair(&a, &b);
	no_memory = true;
	assert_int_equal(stream_write(a.s, "\0", 1), 0);
	no_memory = false;
	assert_int_equal(stream_write(a.s, "\0", 1), 0); /* there is a hole before it */
	sockets_flush(set);
	assert_true(a.closed);
	assert_int_equal(a.error, -ENOMEM);
	settle();
	assert_int_equal(b.got, 0);
}

static void reset_other(struct user *u)
{
	assert_null(sockets_add(set, socket(AF_UNIX, SOCK_STREAM, 0), false));
	if (u->other->s)
		reset_self(u->other);
}

static void the_end(void **state)
{
	struct user a = { .on_closed = reset_other }, b = { .other = &a, .on_closed = reset_other };
	struct user c = { 0 };
	int fd = add_raw(&c);

	(void)state;
	a.other = &b;
	add_pair(&a, &b);
	stream_write(b.s, "abc", 3);
	sockets_destroy(set, -EOWNERDEAD);
	assert_true(a.closed != b.closed);
	assert_int_equal(a.closed ? a.error : b.error, -EOWNERDEAD);
	assert_int_equal(c.error, -EOWNERDEAD);
	set = NULL;
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_in_order),
		TEST(a_window),
		TEST(one_direction_ends_first),
		TEST(a_reset_loses_what_is_queued),
		TEST(nobody_reads),
		TEST(few_system_calls),
		TEST(a_hang_up_is_not_told_for_ever),
		TEST(resets_in_callbacks),
		TEST(finish_in_a_callback),
		TEST(connections),
		TEST(many_streams),
		TEST(everybody_has_a_turn),
		TEST(a_turn_ends),
		TEST(without_memory),
		TEST(the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
