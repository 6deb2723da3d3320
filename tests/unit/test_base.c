/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers, errors, files, paths, the event loop and child processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/path.h"
#include "base/proc.h"

#define PATIENCE_MS 20000

/* ---- a folder for every test ---- */

static char dir[64];

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/test_base.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return path_remove_tree(dir);
}

static char *in_dir(const char *name)
{
	static char s[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(s[i], sizeof(s[i]), "%s/%s", dir, name);
	return s[i];
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* ---- buf ---- */

static void buf_limits(void **state)
{
	struct buf b;

	buf_init(&b, 10);
	assert_int_equal(buf_room(&b), 10);
	assert_null(buf_peek(&b));
	assert_int_equal(buf_add(&b, "", 0), 0);
	assert_int_equal(buf_add(&b, "0123456789a", 11), -ENOBUFS);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_add(&b, "0123456789", 10), 0);
	assert_int_equal(buf_add(&b, "a", 1), -ENOBUFS);
	assert_null(buf_reserve(&b, 1));
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_drop(&b, 3);
	assert_memory_equal(buf_peek(&b), "3456789", 7);
	assert_int_equal(buf_add(&b, "abc", 3), 0);
	assert_memory_equal(buf_peek(&b), "3456789abc", 10);
	buf_drop(&b, 10);
	assert_int_equal(b.head, 0);
	buf_fini(&b);
	buf_fini(&b);
	assert_int_equal(buf_room(&b), 10);
	assert_int_equal(buf_add(&b, "x", 1), 0);
	buf_fini(&b);
}

/* A long sequence of adds and drops, against a counter. */
static void buf_order(void **state)
{
	unsigned int dice = 1, in = 0, out = 0;
	struct buf b;

	buf_init(&b, 5000);
	for (int i = 0; i < 20000; i++) {
		size_t n;

		dice = dice * 1103515245u + 12345;
		n = (dice >> 16) % 1500;
		if (n <= buf_room(&b)) {
			uint8_t *p = buf_reserve(&b, n);

			assert_non_null(p);
			for (size_t k = 0; k < n; k++)
				p[k] = (uint8_t)(in++ % 251);
			buf_commit(&b, n);
		}
		dice = dice * 1103515245u + 12345;
		n = (dice >> 16) % 1500;
		n = n < b.len ? n : b.len;
		for (size_t k = 0; k < n; k++)
			assert_int_equal(buf_peek(&b)[k], out++ % 251);
		buf_drop(&b, n);
		assert_int_equal(b.len, in - out);
		assert_true(b.cap <= 8192);
	}
	buf_fini(&b);
}

/* ---- err ---- */

static void errors(void **state)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	char big[2 * SMOLVM_ERROR_MESSAGE_MAX];

	assert_int_equal(err_set(&err, EINVAL, "bad \"%s\"", "a\nb\x1b[1m\x7f\xc2\x9b\xc3\xa9"),
			 -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.message, "bad \"a?b?[1m???\xc3\xa9\"");
	err_prefix(&err, "reading\t%d", 7);
	assert_string_equal(err.message, "reading?7: bad \"a?b?[1m???\xc3\xa9\"");
	errno = ENOENT;
	assert_int_equal(err_sys(&err, "open %s", "x"), -ENOENT);
	assert_string_equal(err.message, "open x: No such file or directory");
	errno = 0;
	assert_int_equal(err_sys(&err, "x"), -EIO);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	errno = EIO;
	assert_int_equal(err_sys(&err, "%s", big), -EIO);
	assert_int_equal(strlen(err.message), SMOLVM_ERROR_MESSAGE_MAX - 1);
	err_prefix(&err, "%s", big);
	err_prefix(&err, "short");
	assert_int_equal(strlen(err.message), SMOLVM_ERROR_MESSAGE_MAX - 1);
	assert_int_equal(err_nomem(&err), -ENOMEM);
	assert_int_equal(err_set(NULL, EPERM, "x"), -EPERM);
	err_prefix(NULL, "x");
	errno = EACCES;
	assert_int_equal(err_sys(NULL, "x"), -EACCES);
}

/* ---- files and paths ---- */

static void files(void **state)
{
	AUTO_FREE char *text = NULL;
	char *none = NULL, p[8];
	AUTO_FD fd = -1;

	write_file(in_dir("f"), "12345", 0600);
	assert_int_equal(file_read(in_dir("f"), 5, &text), 5);
	assert_string_equal(text, "12345");
	assert_int_equal(file_read(in_dir("f"), 4, &none), -EFBIG);
	assert_int_equal(file_read(in_dir("g"), 4, &none), -ENOENT);
	assert_int_equal(file_read(dir, 4, &none), -EISDIR);
	assert_null(none);
	fd = fd_memfd("x");
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_set_cloexec(fd, 0), 0);
	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fd_set_nonblock(fd, 1), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(fd, 0), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_pwrite_all(fd, "abc", 3, 100), 0);
	assert_int_equal(fd_pread_full(fd, p, sizeof(p), 99), 4);
	assert_memory_equal(p, "\0abc", 4);
	assert_int_equal(fd_read_full(-1, p, 1), -EBADF);
	assert_int_equal(fd_write_all(-1, p, 1), -EBADF);
}

static void make_dirs(void **state)
{
	struct stat st;

	assert_int_equal(path_make_dirs(in_dir("a/b//c/"), 0755), 0);
	assert_int_equal(stat(in_dir("a/b/c"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(path_make_dirs(in_dir("a/b/c"), 0755), 0);
	assert_int_equal(path_make_dirs("/", 0755), 0);
	assert_int_equal(path_make_dirs("", 0755), -ENOENT);
	write_file(in_dir("f"), "", 0600);
	assert_int_equal(path_make_dirs(in_dir("f"), 0755), -ENOTDIR);
	assert_int_equal(path_make_dirs(in_dir("f/x/y"), 0755), -ENOTDIR);
	assert_int_equal(symlink("nowhere", in_dir("l")), 0);
	assert_true(path_make_dirs(in_dir("l"), 0755) < 0);
}

static void find_programs(void **state)
{
	AUTO_FREE char *old = strdup(getenv("PATH") ? getenv("PATH") : ""), *self = NULL;
	AUTO_FREE char *sh = path_find_tool("sh"), *join = path_join("a", "b"), *tool = NULL;

	assert_non_null(sh);
	assert_int_equal(access(sh, X_OK), 0);
	assert_string_equal(join, "a/b");
	assert_null(path_find_tool("no-such-tool"));
	/* Neither a folder nor a file that cannot be run is a tool. */
	assert_int_equal(mkdir(in_dir("1"), 0755) | mkdir(in_dir("2"), 0755), 0);
	assert_int_equal(mkdir(in_dir("1/mytool"), 0755), 0);
	write_file(in_dir("2/mytool"), "", 0644);
	assert_int_equal(setenv("PATH", in_dir("1"), 1), 0);
	assert_null(path_find_tool("mytool"));
	assert_int_equal(setenv("PATH", in_dir("2"), 1), 0);
	assert_null(path_find_tool("mytool"));
	assert_int_equal(chmod(in_dir("2/mytool"), 0755), 0);
	tool = path_find_tool("mytool");
	assert_string_equal(tool, in_dir("2/mytool"));
	unsetenv("PATH");
	assert_null(path_find_tool("mytool"));
	assert_int_equal(setenv("PATH", old, 1), 0);
	self = path_of_program(program_invocation_short_name);
	assert_non_null(self);
	errno = 0;
	assert_null(path_of_program("no-such-file"));
	assert_int_equal(errno, ENOENT);
}

static void remove_tree(void **state)
{
	char deep[4096];
	size_t n;

	assert_int_equal(path_make_dirs(in_dir("t/a/b"), 0755), 0);
	assert_int_equal(path_make_dirs(in_dir("kept"), 0755), 0);
	write_file(in_dir("kept/f"), "", 0600);
	write_file(in_dir("t/a/f"), "", 0);
	assert_int_equal(symlink(in_dir("kept"), in_dir("t/a/b/link")), 0);
	assert_int_equal(symlink(in_dir("kept"), in_dir("link")), 0);
	assert_int_equal(mkfifo(in_dir("t/fifo"), 0600), 0);
	assert_int_equal(path_remove_tree(in_dir("t")), 0);
	assert_int_equal(access(in_dir("t"), F_OK), -1);
	assert_int_equal(path_remove_tree(in_dir("link")), 0);
	assert_int_equal(access(in_dir("link"), F_OK), -1);
	assert_int_equal(access(in_dir("kept/f"), F_OK), 0);
	assert_int_equal(path_remove_tree(in_dir("kept/f")), 0);
	assert_int_equal(path_remove_tree(in_dir("kept/f")), 0);
	assert_int_equal(path_remove_tree(in_dir("none/x")), 0);
	/* Too deep: an error that says so; the caller's folder goes in two steps. */
	n = (size_t)snprintf(deep, sizeof(deep), "%s/deep", dir);
	for (int i = 0; i < 70; i++)
		n += (size_t)snprintf(deep + n, sizeof(deep) - n, "/d");
	assert_int_equal(path_make_dirs(deep, 0755), 0);
	assert_int_equal(path_remove_tree(in_dir("deep")), -ELOOP);
	deep[strlen(in_dir("deep")) + 40] = '\0';
	assert_int_equal(path_remove_tree(deep), 0);
	assert_int_equal(path_remove_tree(in_dir("deep")), 0);
}

/* ---- loop ---- */

struct probe {
	struct loop_watch w;
	struct loop_timer t;
	struct loop *l;
	struct probe *victim; /* removed by this one's callback */
	int calls, limit;
	unsigned int events;
};

static void probe_ready(struct loop_watch *w, unsigned int events)
{
	struct probe *p = w->ctx;

	p->calls++;
	p->events |= events;
	if (p->victim)
		loop_remove(p->l, &p->victim->w);
	if (p->limit && p->calls >= p->limit)
		loop_stop(p->l, p->calls);
}

static void probe_fired(struct loop_timer *t)
{
	struct probe *p = t->ctx;

	p->calls++;
	if (p->victim)
		loop_cancel(p->l, &p->victim->t);
	if (p->limit && p->calls >= p->limit)
		loop_stop(p->l, p->calls);
}

static void probe_init(struct probe *p, struct loop *l, int fd, unsigned int events, int limit)
{
	*p = (struct probe){ .l = l, .limit = limit };
	p->w = (struct loop_watch){ .fd = fd, .events = events, .ready = probe_ready, .ctx = p };
	p->t = (struct loop_timer){ .fired = probe_fired, .ctx = p };
	if (fd >= 0)
		assert_int_equal(loop_add(l, &p->w), 0);
}

static void loop_pipes(void **state)
{
	struct loop *l = loop_create();
	struct probe r, w;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	probe_init(&r, l, fds[0], LOOP_READ, 1);
	probe_init(&w, l, fds[1], LOOP_WRITE, 1);
	assert_int_equal(loop_run(l), 1);
	assert_int_equal(w.events, LOOP_WRITE);
	assert_int_equal(r.calls, 0);
	loop_set(l, &w.w, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(loop_run(l), 1);
	assert_int_equal(r.events, LOOP_READ);
	assert_int_equal(w.calls, 1);
	loop_remove(l, &w.w);
	loop_remove(l, &w.w);
	assert_int_equal(w.w.fd, -1);
	close(fds[1]);
	loop_set(l, &r.w, 0);
	r.events = 0;
	loop_run(l);
	assert_int_equal(r.events, LOOP_HANGUP); /* though nothing was asked for */
	loop_remove(l, &r.w);
	close(fds[0]);
	loop_stop(l, 17); /* before the run */
	assert_int_equal(loop_run(l), 17);
	loop_destroy(l);
	loop_destroy(NULL);
}

/* Two that are ready at once, and remove each other: only one is ever called. */
static void loop_remove_in_callback(void **state)
{
	struct loop *l = loop_create();
	struct probe p[2], timer;
	int fds[2][2];

	for (int own = 0; own < 2; own++) {
		for (int i = 0; i < 2; i++) {
			assert_int_equal(pipe2(fds[i], O_CLOEXEC), 0);
			assert_int_equal(write(fds[i][1], "x", 1), 1);
			probe_init(&p[i], l, fds[i][0], LOOP_READ, own ? 0 : 1);
		}
		p[0].victim = own ? &p[0] : &p[1];
		p[1].victim = own ? &p[1] : &p[0];
		probe_init(&timer, l, -1, 0, 1);
		loop_arm(l, &timer.t, 10);
		loop_run(l);
		loop_cancel(l, &timer.t);
		assert_int_equal(p[0].calls + p[1].calls, own ? 2 : 1);
		for (int i = 0; i < 2; i++) {
			loop_remove(l, &p[i].w);
			close(fds[i][0]);
			close(fds[i][1]);
		}
	}
	loop_destroy(l);
}

static void lose_interest(struct loop_watch *w, unsigned int events)
{
	struct probe *p = w->ctx;

	p->calls++;
	loop_set(p->l, &p->victim->w, 0);
	loop_set(p->l, w, 0);
}

/* An event of this round for which another callback has just lost interest is not told. */
static void loop_set_in_callback(void **state)
{
	struct loop *l = loop_create();
	struct probe p[2], timer;
	int fds[2][2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(fds[i], O_CLOEXEC), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		probe_init(&p[i], l, fds[i][0], LOOP_READ, 0);
		p[i].w.ready = lose_interest;
		p[i].victim = &p[!i];
	}
	probe_init(&timer, l, -1, 0, 1);
	loop_arm(l, &timer.t, 10);
	loop_run(l);
	assert_int_equal(p[0].calls + p[1].calls, 1);
	for (int i = 0; i < 2; i++) {
		loop_remove(l, &p[i].w);
		close(fds[i][0]);
		close(fds[i][1]);
	}
	loop_destroy(l);
}

static void loop_regular_files(void **state)
{
	struct loop *l = loop_create();
	struct probe p[4], pipe_probe;
	int fds[2];

	write_file(in_dir("f"), "x", 0600);
	for (int i = 0; i < 4; i++) {
		int fd = open(in_dir("f"), O_RDWR | O_CLOEXEC);

		assert_true(fd >= 0);
		probe_init(&p[i], l, fd, LOOP_READ, 0);
	}
	/* Files being always ready hold back neither pipes nor timers. */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	probe_init(&pipe_probe, l, fds[0], LOOP_READ, 3);
	loop_arm(l, &p[0].t, 0);
	assert_int_equal(loop_run(l), 3);
	assert_int_equal(p[0].events, LOOP_READ);
	assert_true(p[0].calls >= 2 && p[3].calls >= 2);
	loop_remove(l, &pipe_probe.w);
	/* 3 is the first in the list: it removes the next one, which removes itself, and so on. */
	for (int i = 0; i < 4; i++)
		p[i].calls = 0;
	loop_cancel(l, &p[0].t);
	p[3].victim = &p[2];
	p[1].victim = &p[1];
	p[0].limit = 2;
	loop_set(l, &p[0].w, LOOP_READ | LOOP_WRITE);
	assert_int_equal(loop_run(l), 2);
	assert_int_equal(p[0].events, LOOP_READ | LOOP_WRITE);
	assert_int_equal(p[1].calls, 1);
	assert_int_equal(p[2].calls, 0);
	assert_int_equal(p[3].calls, 2);
	/* One that waits for nothing does not spin: the timer is what ends it. */
	loop_set(l, &p[0].w, 0);
	loop_set(l, &p[3].w, 0);
	loop_arm(l, &p[0].t, 20);
	assert_int_equal(loop_run(l), 3);
	assert_int_equal(p[3].calls, 2);
	for (int i = 0; i < 4; i++)
		loop_remove(l, &p[i].w);
	for (int i = 0; i < 4; i++)
		assert_int_equal(p[i].w.fd, -1);
	close(fds[0]);
	close(fds[1]);
	loop_destroy(l);
}

static int fired_order[8], n_fired;

static void note_order(struct loop_timer *t)
{
	fired_order[n_fired++] = (int)(intptr_t)t->ctx;
}

static void loop_timers(void **state)
{
	struct loop *l = loop_create();
	struct loop_timer t[4];
	struct probe a, b, last;
	int64_t start = clock_ms();

	for (int i = 0; i < 4; i++)
		t[i] = (struct loop_timer){ .fired = note_order, .ctx = (void *)(intptr_t)i };
	n_fired = 0;
	probe_init(&a, l, -1, 0, 0);
	probe_init(&b, l, -1, 0, 0);
	probe_init(&last, l, -1, 0, 1);
	loop_cancel(l, &t[0]);
	loop_arm(l, &t[0], 30);
	loop_arm(l, &t[1], 10);
	loop_arm(l, &t[2], 20);
	loop_arm(l, &t[3], 5);
	loop_arm(l, &t[1], 25); /* moved */
	loop_cancel(l, &t[3]);
	a.victim = &b; /* both are due at once: the first cancels the second */
	loop_arm(l, &a.t, 0);
	loop_arm(l, &b.t, 0);
	loop_arm(l, &last.t, 40);
	loop_run(l);
	assert_true(clock_ms() - start >= 40);
	assert_int_equal(n_fired, 3);
	assert_int_equal(fired_order[0], 2);
	assert_int_equal(fired_order[1], 1);
	assert_int_equal(fired_order[2], 0);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	assert_true(a.t.at_ms == 0 && t[0].at_ms == 0);
	loop_destroy(l);
}

static void loop_bad_fd(void **state)
{
	struct loop *l = loop_create();
	struct loop_watch w = { .fd = 1000, .events = LOOP_READ };

	assert_int_equal(loop_add(l, &w), -EBADF);
	loop_destroy(l);
}

/* ---- proc ---- */

/* Run a script with these descriptors. Return: as proc_run(). */
static int sh_with(const char *script, const struct proc_fd *fds, size_t n)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	struct proc_config c = { .path = "/bin/sh", .argv = argv, .fds = fds, .n_fds = n };

	return proc_run(&c, PATIENCE_MS, NULL);
}

static int file_with(const char *text)
{
	int fd = fd_memfd(text);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

#define IS(fd, text) "test $(cat /proc/self/fd/" fd ") = " text

/* Descriptors that take each other's numbers all arrive, and nothing else does. */
static void spawn_overlaps(void **state)
{
	int a = file_with("a"), b = file_with("b"), c = file_with("c"), high;
	const struct proc_fd rotated[] = { { a, b }, { b, c }, { c, a } };
	const struct proc_fd same[] = { { a, a }, { b, b }, { a, 90 } };
	struct proc_fd highs[] = { { -1, 127 }, { c, 0 } };
	char script[512];

	assert_true(a < 90 && b < 90 && c < 90);
	snprintf(script, sizeof(script), IS("%d", "a") " && " IS("%d", "b") " && " IS("%d", "c"),
		 b, c, a);
	assert_int_equal(sh_with(script, rotated, 3), 0);
	snprintf(script, sizeof(script), IS("%d", "a") " && " IS("%d", "b") " && " IS("90", "a")
		 " && test ! -e /proc/self/fd/%d", a, b, c);
	assert_int_equal(sh_with(script, same, 3), 0);
	/* From a number in the range that is used meanwhile, and to the largest. */
	high = fcntl(c, F_DUPFD, 128);
	assert_true(high >= 128);
	highs[1].from = high;
	assert_int_equal(sh_with(IS("0", "c") " && test /proc/self/fd/127 -ef /dev/null && "
				 "test ! -e /proc/self/fd/128", highs, 2), 0);
	close(high);
	close(a);
	close(b);
	close(c);
}

/* Nothing leaks that was not named, though it has no close-on-exec flag. */
static void spawn_leaks_nothing(void **state)
{
	int fds[150], n = 0;

	while (n < 150)
		fds[n++] = dup(2);
	fds[n - 1] = fcntl(2, F_DUPFD, 500);
	assert_int_equal(sh_with("for f in /proc/$$/fd/*; do case $f in */0|*/1|*/2) "
				 "test $f -ef /dev/null || exit 3;; */10|*/255) ;; "
				 "*) test -e $f && exit 4;; esac; done; exit 0", NULL, 0), 0);
	while (n)
		close(fds[--n]);
}

static void spawn_without_std(void **state)
{
	int saved[3], rc, f = file_with("out");
	const struct proc_fd fds[] = { { f, 0 } };

	for (int i = 0; i < 3; i++)
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 30);
	for (int i = 0; i < 3; i++)
		close(i);
	rc = sh_with("test $(cat) = out && test /dev/fd/1 -ef /dev/null && "
		     "test /dev/fd/2 -ef /dev/null", fds, 1);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	close(f);
	assert_int_equal(rc, 0);
}

static void spawn_bad_fds(void **state)
{
	const struct proc_fd bad[] = { { 999, 3 } }, low[] = { { 0, -1 } }, high[] = { { 0, 128 } };
	struct proc_fd many[97] = { { 0, 0 } };

	assert_int_equal(sh_with("true", bad, 1), -EBADF);
	assert_int_equal(sh_with("true", low, 1), -EINVAL);
	assert_int_equal(sh_with("true", high, 1), -EINVAL);
	assert_int_equal(sh_with("true", many, 97), -E2BIG);
	assert_int_equal(sh_with("true", many, 96), 0);
}

static void exec_errors(void **state)
{
	const char *argv[] = { "x", NULL };
	struct proc_config c = { .path = "/no/such/program", .argv = argv };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	pid_t pid = -5;
	int pidfd = -5;

	assert_int_equal(proc_spawn(&c, &pid, &pidfd, &err), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_non_null(strstr(err.message, "/no/such/program"));
	assert_true(pid == -5 && pidfd == -5);
	c.path = dir;
	assert_int_equal(proc_spawn(&c, &pid, &pidfd, NULL), -EACCES);
	write_file(in_dir("text"), "no program", 0755);
	c.path = in_dir("text");
	assert_int_equal(proc_spawn(&c, &pid, &pidfd, NULL), -ENOEXEC);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie was left */
	assert_int_equal(errno, ECHILD);
}

static void run_and_env(void **state)
{
	const char *argv[] = { "sh", "-c", "test \"$A\" = b && test -z \"$HOME\" && exit 7", NULL };
	const char *env[] = { "A=b", NULL };
	struct proc_config c = { .path = "/bin/sh", .argv = argv, .env = env };
	int status = proc_run(&c, PATIENCE_MS, NULL);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	status = sh_with("kill -TERM $$", NULL, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTERM);
}

static void run_timeout(void **state)
{
	const char *argv[] = { "sleep", "1000", NULL };
	struct proc_config c = { .path = "/bin/sleep", .argv = argv };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	int64_t start = clock_ms();

	assert_int_equal(proc_run(&c, 50, &err), -ETIMEDOUT);
	assert_true(clock_ms() - start >= 49 && clock_ms() - start < PATIENCE_MS);
	assert_int_equal(err.code, ETIMEDOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void on_alarm(int sig)
{
}

/* Signals that interrupt the waiting do not make it longer. */
static void wait_interrupted(void **state)
{
	const char *argv[] = { "sleep", "1000", NULL };
	struct proc_config c = { .path = "/bin/sleep", .argv = argv };
	const struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = on_alarm }, old;
	int64_t start = clock_ms();
	int status, pidfd;
	pid_t pid;

	assert_int_equal(proc_spawn(&c, &pid, &pidfd, NULL), 0);
	assert_int_equal(proc_wait(pid, pidfd, 0, &status), -ETIMEDOUT);
	sigaction(SIGALRM, &sa, &old);
	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(proc_wait(pid, pidfd, 100, &status), -ETIMEDOUT);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	assert_true(clock_ms() - start < PATIENCE_MS);
	assert_true(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
	proc_kill(pidfd, SIGKILL);
	assert_int_equal(proc_wait(pid, pidfd, -1, &status), 0);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	proc_kill(pidfd, SIGKILL); /* nobody there any more */
	close(pidfd);
}

/* Ignored and blocked signals are neither in the child. */
static void signals_reset(void **state)
{
	sigset_t set, old;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGUSR1, SIG_IGN);
	status = sh_with("kill -USR1 $$; exit 0", NULL, 0);
	sigprocmask(SIG_BLOCK, NULL, &set);
	assert_int_equal(sigismember(&set, SIGUSR1), 1);
	assert_int_equal(sigismember(&set, SIGTERM), 0);
	signal(SIGUSR1, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGUSR1);
}

static void new_session(void **state)
{
	const char *argv[] = { "sh", "-c", "read -r a b c d e f g < /proc/$$/stat; "
			       "test $e = $$ && test $f = $$", NULL };
	struct proc_config c = { .path = "/bin/sh", .argv = argv, .new_session = true };

	assert_int_equal(proc_run(&c, PATIENCE_MS, NULL), 0);
	c.new_session = false;
	assert_int_not_equal(proc_run(&c, PATIENCE_MS, NULL), 0);
}

/* A child that holds the end of a pipe: the pipe ends when it dies with its parent. */
static void die_with_parent(void **state)
{
	const char *argv[] = { "sleep", "1000", NULL };
	int fds[2], status, pidfd;
	struct pollfd p;
	pid_t pid, parent;
	char c;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	parent = fork();
	if (parent == 0) {
		const struct proc_fd give[] = { { fds[1], 5 } };
		struct proc_config conf = { .path = "/bin/sleep", .argv = argv, .fds = give,
					    .n_fds = 1, .die_with_parent = true };

		_exit(proc_spawn(&conf, &pid, &pidfd, NULL) == 0 ? 0 : 1);
	}
	close(fds[1]);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_int_equal(status, 0);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	assert_int_equal(read(fds[0], &c, 1), 0);
	close(fds[0]);
}

/* Where descriptors run out, that is said. */
static void spawn_at_the_limit(void **state)
{
	struct rlimit old, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ 140, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(sh_with("exit 0", NULL, 0), 0);
	few.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(sh_with("exit 0", NULL, 0), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_limits), cmocka_unit_test(buf_order),
		cmocka_unit_test(errors), IN_DIR(files), IN_DIR(make_dirs), IN_DIR(find_programs),
		IN_DIR(remove_tree), cmocka_unit_test(loop_pipes),
		cmocka_unit_test(loop_remove_in_callback), cmocka_unit_test(loop_set_in_callback),
		IN_DIR(loop_regular_files), cmocka_unit_test(loop_timers),
		cmocka_unit_test(loop_bad_fd), cmocka_unit_test(spawn_overlaps),
		cmocka_unit_test(spawn_leaks_nothing), cmocka_unit_test(spawn_without_std),
		cmocka_unit_test(spawn_bad_fds), IN_DIR(exec_errors), cmocka_unit_test(run_and_env),
		cmocka_unit_test(run_timeout), cmocka_unit_test(wait_interrupted),
		cmocka_unit_test(signals_reset), cmocka_unit_test(new_session),
		cmocka_unit_test(die_with_parent), cmocka_unit_test(spawn_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
