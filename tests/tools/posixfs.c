/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A POSIX file-system test: posixfs [-m] DIRECTORY, TAP on standard output.
 *
 * Every test works in a new directory of its own below DIRECTORY. -m: the server has no privilege
 * and maps owners, so giving files away and making devices is not expected to work. Needs root.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Not in every C library. */
#ifndef FALLOC_FL_ZERO_RANGE
#define FALLOC_FL_ZERO_RANGE 0x10
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

static unsigned int failures; /* of the present test */

static void failed(int line, const char *what)
{
	printf("# line %d: %s (errno %d, %s)\n", line, what, errno, strerror(errno));
	failures++;
}

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		errno = 0;                                                                         \
		if (!(cond))                                                                       \
			failed(__LINE__, #cond);                                                   \
	} while (0)

#define CHECK_ERRNO(call, code)                                                                    \
	do {                                                                                       \
		errno = 0;                                                                         \
		if ((call) != -1 || errno != (code))                                               \
			failed(__LINE__, #call " should give " #code);                             \
	} while (0)

/* ---- helpers ---- */

static int make(const char *name, const char *text)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd >= 0 && write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		failed(__LINE__, "write");
	return fd;
}

static void put(const char *name, const char *text)
{
	int fd = make(name, text);

	if (fd < 0)
		failed(__LINE__, name);
	else
		close(fd);
}

static bool holds(const char *name, const char *text)
{
	char buf[256];
	int fd = open(name, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

static bool exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

static struct stat look(const char *name)
{
	struct stat st = { 0 };

	if (lstat(name, &st) < 0)
		failed(__LINE__, name);
	return st;
}

static int rename2(const char *from, const char *to, unsigned int flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static unsigned int count_entries(const char *name)
{
	DIR *d = opendir(name);
	struct dirent *e;
	unsigned int n = 0;

	if (d == NULL)
		return UINT_MAX;
	while ((e = readdir(d)) != NULL)
		n++;
	closedir(d);
	return n;
}

/* Run @fn in a child that is user 1000; its failures are ours. */
static void as_user(void (*fn)(void))
{
	pid_t pid;
	int status = -1;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		failures = 0;
		if (setgid(1000) < 0 || setuid(1000) < 0)
			_exit(1);
		fn();
		fflush(stdout);
		_exit(failures > 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		failures++;
}

/* ---- names ---- */

static void test_create(void)
{
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);

	CHECK(fd >= 0);
	CHECK((look("f").st_mode & 07777) == 0640);
	CHECK_ERRNO(open("f", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
	CHECK(write(fd, "abc", 3) == 3);
	close(fd);
	CHECK(holds("f", "abc"));
	put("f", "z");
	CHECK(holds("f", "z"));
	CHECK_ERRNO(open("none", O_RDONLY), ENOENT);
	CHECK_ERRNO(open("f/x", O_RDONLY), ENOTDIR);
	CHECK_ERRNO(open(".", O_RDWR), EISDIR);
	/* A new file that is read-only can be written through the descriptor that made it. */
	fd = open("ro", O_RDWR | O_CREAT | O_EXCL, 0444);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
}

static void test_umask(void)
{
	mode_t old = umask(0);

	CHECK(mkdir("d", 0777) == 0 && (look("d").st_mode & 07777) == 0777);
	CHECK(mknod("n", S_IFREG | 0666, 0) == 0 && (look("n").st_mode & 07777) == 0666);
	close(open("c", O_CREAT | O_WRONLY, 0666));
	CHECK((look("c").st_mode & 07777) == 0666);
	umask(027);
	CHECK(mkdir("d2", 0777) == 0 && (look("d2").st_mode & 07777) == 0750);
	close(open("c2", O_CREAT | O_WRONLY, 0666));
	CHECK((look("c2").st_mode & 07777) == 0640);
	umask(old);
}

static void test_rename(void)
{
	int fd;

	put("a", "A");
	put("b", "B");
	CHECK(rename("a", "b") == 0 && !exists("a") && holds("b", "A"));
	put("a", "new");
	CHECK_ERRNO(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	CHECK(rename2("a", "b", RENAME_EXCHANGE) == 0 && holds("a", "A") && holds("b", "new"));
	CHECK(rename2("a", "c", RENAME_NOREPLACE) == 0 && holds("c", "A"));
	CHECK_ERRNO(rename("none", "x"), ENOENT);
	CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
	put("d/e/f", "deep");
	fd = open("d/e/f", O_RDONLY);
	CHECK_ERRNO(rename("d", "d/e/x"), EINVAL);
	CHECK_ERRNO(rename("c", "d"), EISDIR);
	CHECK_ERRNO(rename("d", "c"), ENOTDIR);
	CHECK(rename("d", "moved") == 0 && holds("moved/e/f", "deep"));
	CHECK(mkdir("full", 0755) == 0);
	put("full/x", "");
	CHECK_ERRNO(rename("moved", "full"), ENOTEMPTY);
	CHECK(mkdir("empty", 0755) == 0 && rename("moved", "empty") == 0);
	CHECK(holds("empty/e/f", "deep"));
	CHECK(rename("empty/e", "full/e") == 0 && holds("full/e/f", "deep"));
	CHECK(rename2("full", "empty", RENAME_EXCHANGE) == 0 && holds("empty/e/f", "deep"));
	if (fd >= 0) {
		struct stat st;

		CHECK(fstat(fd, &st) == 0 && st.st_size == 4 && st.st_nlink == 1);
		close(fd);
	}
}

/* Work goes on below a directory that is renamed meanwhile. */
static void test_rename_above(void)
{
	CHECK(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && chdir("a/b") == 0);
	put("f", "1");
	CHECK(rename("../../a", "../../z") == 0);
	put("g", "2");
	CHECK(holds("f", "1") && holds("g", "2") && holds("../../z/b/g", "2"));
	CHECK(unlink("f") == 0 && chdir("../..") == 0 && !exists("z/b/f"));
}

static void test_unlink_open(void)
{
	struct stat st;
	char buf[8];
	int fd = make("f", "hello");

	CHECK(unlink("f") == 0 && !exists("f"));
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5);
	CHECK(pwrite(fd, "HE", 2, 0) == 2 && pread(fd, buf, 8, 0) == 5 && !memcmp(buf, "HEllo", 5));
	CHECK(ftruncate(fd, 2) == 0 && fstat(fd, &st) == 0 && st.st_size == 2);
	CHECK(fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0600);
	CHECK(futimens(fd, (struct timespec[2]){ { 5, 0 }, { 6, 0 } }) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_mtime == 6);
	CHECK(fsync(fd) == 0);
	put("f", "other");
	CHECK(pread(fd, buf, 8, 0) == 2 && holds("f", "other"));
	close(fd);
	CHECK_ERRNO(unlink("none"), ENOENT);
	CHECK(mkdir("d", 0755) == 0);
	CHECK_ERRNO(unlink("d"), EISDIR);
	CHECK_ERRNO(rmdir("f"), ENOTDIR);
	put("d/x", "");
	CHECK_ERRNO(rmdir("d"), ENOTEMPTY);
	CHECK(unlink("d/x") == 0 && rmdir("d") == 0);
}

/* The file that a rename replaces stays alive for those who have it open. */
static void test_rename_over_open(void)
{
	struct stat st;
	char buf[8];
	int fd = make("old", "old");

	put("new", "newer");
	CHECK(rename("new", "old") == 0);
	CHECK(pread(fd, buf, 8, 0) == 3 && memcmp(buf, "old", 3) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && holds("old", "newer"));
	close(fd);
}

static void test_hard_links(void)
{
	int fd = make("a", "x");

	CHECK(link("a", "b") == 0);
	CHECK(look("a").st_nlink == 2 && look("a").st_ino == look("b").st_ino);
	CHECK(write(fd, "y", 1) == 1 && holds("b", "xy"));
	close(fd);
	CHECK_ERRNO(link("a", "b"), EEXIST);
	CHECK(mkdir("d", 0755) == 0);
	CHECK_ERRNO(link("d", "e"), EPERM);
	CHECK(unlink("a") == 0 && holds("b", "xy") && look("b").st_nlink == 1);
	CHECK(chmod("b", 0600) == 0 && link("b", "d/c") == 0 && unlink("b") == 0);
	CHECK(holds("d/c", "xy") && (look("d/c").st_mode & 07777) == 0600);
	CHECK(symlink("nowhere", "s") == 0 && linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0) == 0);
	CHECK(S_ISLNK(look("s2").st_mode) && look("s2").st_nlink == 2);
	put("p", "p");
	CHECK(link("p", "q") == 0 && rename("p", "q") == 0 && exists("p") && exists("q"));
}

static void test_symlinks(void)
{
	char buf[PATH_MAX], target[PATH_MAX];

	put("f", "file");
	CHECK(symlink("f", "l") == 0 && holds("l", "file"));
	CHECK(readlink("l", buf, sizeof(buf)) == 1 && buf[0] == 'f');
	CHECK(symlink("../../../../etc/passwd", "out") == 0);
	CHECK(readlink("out", buf, sizeof(buf)) == 22);
	CHECK(symlink("/absolute", "abs") == 0 && readlink("abs", buf, sizeof(buf)) == 9);
	CHECK_ERRNO(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK(symlink("loop", "loop") == 0);
	CHECK_ERRNO(open("loop", O_RDONLY), ELOOP);
	memset(target, 'x', sizeof(target));
	target[4000] = '\0';
	CHECK(symlink(target, "long") == 0 && readlink("long", buf, sizeof(buf)) == 4000);
	CHECK(lchown("l", 0, 0) == 0);
	CHECK(utimensat(AT_FDCWD, "l", (struct timespec[2]){ { 1, 0 }, { 2, 0 } },
			AT_SYMLINK_NOFOLLOW) == 0);
	CHECK(look("l").st_mtime == 2 && look("f").st_mtime != 2);
	CHECK(symlink("g", "dangling") == 0);
	put("dangling", "made");
	CHECK(holds("g", "made"));
}

static void test_names(void)
{
	char name[260];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	put(name, "long");
	CHECK(holds(name, "long"));
	name[255] = 'n';
	name[256] = '\0';
	CHECK_ERRNO(open(name, O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
	CHECK_ERRNO(mkdir(name, 0755), ENAMETOOLONG);
	put("with\nnewline", "1");
	put("with space \xff\xfe\x01", "2");
	put("...", "3");
	put("-rf", "4");
	CHECK(holds("with\nnewline", "1") && holds("with space \xff\xfe\x01", "2"));
	CHECK(holds("...", "3") && count_entries(".") == 2 + 5);
}

static void test_deep(void)
{
	char cwd[PATH_MAX];
	int start = open(".", O_RDONLY | O_DIRECTORY);
	int i;

	/* Twice as deep as a path can be long. */
	for (i = 0; i < 100 && failures == 0; i++) {
		char name[100];

		memset(name, 'd', sizeof(name));
		name[99] = '\0';
		CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
	}
	put("bottom", "deep");
	CHECK(holds("bottom", "deep"));
	CHECK(getcwd(cwd, sizeof(cwd)) == NULL);
	while (i-- > 0) {
		unlink("bottom");
		CHECK(chdir("..") == 0);
		if (i > 0)
			continue;
		CHECK(count_entries(".") == 3);
	}
	CHECK(fchdir(start) == 0);
	close(start);
}

/* ---- directories ---- */

static void test_readdir(void)
{
	enum { MANY = 3000 };
	static uint8_t seen[MANY];
	char name[NAME_MAX + 1];
	struct dirent *e;
	unsigned int n = 0;
	long at;
	DIR *d;

	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		CHECK(mknod(name, S_IFREG | 0644, 0) == 0);
	}
	/* Every name once, also when names are removed while they are read. */
	d = opendir(".");
	while (d != NULL && (e = readdir(d)) != NULL) {
		int i;

		if (sscanf(e->d_name, "file-%d", &i) != 1)
			continue;
		CHECK(i >= 0 && i < MANY && seen[i]++ == 0);
		if (n++ % 3 == 0)
			CHECK(unlink(e->d_name) == 0);
	}
	CHECK(n == MANY);
	rewinddir(d);
	for (n = 0; (e = readdir(d)) != NULL; n++)
		;
	CHECK(n == MANY - MANY / 3 + 2);
	/* seekdir() goes back to where telldir() was. */
	rewinddir(d);
	for (n = 0; n < 500; n++)
		readdir(d);
	at = telldir(d);
	e = readdir(d);
	snprintf(name, sizeof(name), "%s", e->d_name);
	for (n = 0; n < 500; n++)
		readdir(d);
	seekdir(d, at);
	e = readdir(d);
	CHECK(e != NULL && strcmp(e->d_name, name) == 0);
	put("added", "");
	rewinddir(d);
	for (n = 0; (e = readdir(d)) != NULL;)
		n += strcmp(e->d_name, "added") == 0;
	CHECK(n == 1);
	closedir(d);
}

static void test_readdir_types(void)
{
	struct dirent *e;
	DIR *d;

	CHECK(mkdir("d", 0755) == 0 && symlink("x", "l") == 0 && mkfifo("p", 0644) == 0);
	put("f", "");
	d = opendir(".");
	while (d != NULL && (e = readdir(d)) != NULL) {
		static const char kinds[] = { 'd', DT_DIR, 'l', DT_LNK, 'p', DT_FIFO, 'f', DT_REG };

		for (size_t i = 0; i < sizeof(kinds); i += 2) {
			if (e->d_name[0] == kinds[i])
				CHECK(e->d_type == kinds[i + 1]);
		}
		if (strcmp(e->d_name, ".") == 0)
			CHECK(e->d_ino == look(".").st_ino);
		if (strcmp(e->d_name, "f") == 0)
			CHECK(e->d_ino == look("f").st_ino);
	}
	closedir(d);
	CHECK(look(".").st_nlink == 3 || look(".").st_nlink == 1);
	d = opendir("d");
	CHECK(rmdir("d") == 0 && readdir(d) != (void *)1);
	closedir(d);
}

/* ---- data ---- */

static void test_append(void)
{
	int a = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644), b;

	b = open("f", O_WRONLY | O_APPEND);
	CHECK(write(a, "one", 3) == 3 && write(b, "two", 3) == 3 && write(a, "3", 1) == 1);
	CHECK(holds("f", "onetwo3"));
	CHECK(fcntl(a, F_SETFL, 0) == 0 && pwrite(a, "O", 1, 0) == 1 && holds("f", "Onetwo3"));
	CHECK(fcntl(a, F_SETFL, O_APPEND) == 0 && write(a, "4", 1) == 1 && holds("f", "Onetwo34"));
	close(a);
	close(b);
}

static void test_truncate(void)
{
	char buf[16];
	int fd = make("f", "0123456789");

	CHECK(ftruncate(fd, 4) == 0 && holds("f", "0123"));
	CHECK(ftruncate(fd, 8) == 0 && pread(fd, buf, 16, 0) == 8);
	CHECK(memcmp(buf, "0123\0\0\0\0", 8) == 0);
	CHECK(truncate("f", 2) == 0 && holds("f", "01"));
	close(fd);
	fd = open("f", O_WRONLY | O_TRUNC);
	CHECK(look("f").st_size == 0);
	close(fd);
	CHECK(truncate("f", 1ll << 40) == 0 && look("f").st_size == 1ll << 40);
	CHECK(look("f").st_blocks == 0);
	CHECK_ERRNO(truncate("none", 0), ENOENT);
	CHECK_ERRNO(truncate(".", 0), EISDIR);
}

static void test_mmap(void)
{
	enum { SIZE = 3 * 4096 + 100 };
	char buf[16] = "";
	struct stat st;
	char *a, *b;
	int fd = make("f", "");

	CHECK(ftruncate(fd, SIZE) == 0);
	a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(a != MAP_FAILED && b != MAP_FAILED);
	if (a == MAP_FAILED || b == MAP_FAILED)
		return;
	memcpy(a + 5000, "mapped", 6);
	CHECK(memcmp(b + 5000, "mapped", 6) == 0);
	CHECK(pread(fd, buf, 6, 5000) == 6 && memcmp(buf, "mapped", 6) == 0);
	CHECK(pwrite(fd, "written", 7, 9000) == 7 && memcmp(b + 9000, "written", 7) == 0);
	CHECK(msync(a, SIZE, MS_SYNC) == 0);
	munmap(b, SIZE);
	a[SIZE - 1] = '!';
	munmap(a, SIZE);
	close(fd);
	fd = open("f", O_RDONLY);
	CHECK(pread(fd, buf, 6, 5000) == 6 && memcmp(buf, "mapped", 6) == 0);
	CHECK(pread(fd, buf, 2, SIZE - 1) == 1 && buf[0] == '!');
	CHECK(fstat(fd, &st) == 0 && st.st_size == SIZE);
	a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	a[0] = 'p';
	munmap(a, SIZE);
	CHECK(pread(fd, buf, 1, 0) == 1 && buf[0] == '\0');
	close(fd);
}

/* A mapping of a file whose other writer appends. */
static void test_mmap_append(void)
{
	char *map, buf[16];
	int fd = make("f", "aaaaaaaa"), app;

	app = open("f", O_WRONLY | O_APPEND);
	map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	map[1] = 'M';
	CHECK(write(app, "bb", 2) == 2);
	CHECK(msync(map, 8, MS_SYNC) == 0);
	munmap(map, 8);
	close(app);
	fd = open("f", O_RDONLY);
	CHECK(read(fd, buf, sizeof(buf)) == 10 && memcmp(buf, "aMaaaaaabb", 10) == 0);
	close(fd);
}

static void test_big_io(void)
{
	enum { SIZE = 3 * 1024 * 1024 + 17 };
	uint8_t *a = malloc(SIZE), *b = malloc(SIZE);
	struct iovec iov[2] = { { a, 1000 }, { a + 1000, SIZE - 1000 } };
	int fd = make("f", "");

	for (unsigned int i = 0; i < SIZE; i++)
		a[i] = (uint8_t)(i * 2654435761u >> 13);
	CHECK(writev(fd, iov, 2) == SIZE);
	CHECK(pread(fd, b, SIZE, 0) == SIZE && memcmp(a, b, SIZE) == 0);
	close(fd);
	fd = open("f", O_RDONLY);
	CHECK(read(fd, b, SIZE) == SIZE && memcmp(a, b, SIZE) == 0 && read(fd, b, 1) == 0);
	close(fd);
	fd = open("f", O_RDWR | O_SYNC);
	CHECK(pwrite(fd, a + 1, 5000, 0) == 5000 && fdatasync(fd) == 0);
	CHECK(pread(fd, b, 5000, 0) == 5000 && memcmp(a + 1, b, 5000) == 0);
	close(fd);
	free(a);
	free(b);
}

static void test_direct(void)
{
	void *p = NULL;
	int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644);

	CHECK(fd >= 0 && posix_memalign(&p, 4096, 65536) == 0);
	memset(p, 'D', 65536);
	CHECK(pwrite(fd, p, 65536, 0) == 65536);
	memset(p, 0, 65536);
	CHECK(pread(fd, p, 65536, 0) == 65536 && *(char *)p == 'D');
	free(p);
	close(fd);
}

static void test_sparse(void)
{
	char buf[4];
	struct stat st;
	int fd = make("f", "");

	CHECK(pwrite(fd, "end", 3, 64 << 20) == 3);
	CHECK(fstat(fd, &st) == 0 && st.st_size == (64 << 20) + 3 && st.st_blocks < 1024);
	CHECK(lseek(fd, 0, SEEK_DATA) == 64 << 20 && lseek(fd, 0, SEEK_HOLE) == 0);
	CHECK_ERRNO(lseek(fd, (64 << 20) + 3, SEEK_DATA), ENXIO);
	CHECK(fallocate(fd, 0, 0, 1 << 20) == 0 && fstat(fd, &st) == 0 && st.st_blocks >= 2048);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_blocks < 1024 && st.st_size == (64 << 20) + 3);
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 128 << 20) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == (64 << 20) + 3);
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 64 << 20, 3) == 0)
		CHECK(pread(fd, buf, 3, 64 << 20) == 3 && memcmp(buf, "\0\0\0", 3) == 0);
	else if (errno != EOPNOTSUPP) /* tmpfs */
		failed(__LINE__, "zero range");
	CHECK(fallocate(fd, 0, 0, 65 << 20) == 0 && fstat(fd, &st) == 0);
	CHECK(st.st_size == 65 << 20);
	close(fd);
}

static void test_copy_range(void)
{
	loff_t in = 2, out = 1;
	int a = make("a", "0123456789"), b = make("b", "xx");

	CHECK(syscall(SYS_copy_file_range, a, &in, b, &out, 5, 0) == 5 && in == 7 && out == 6);
	CHECK(holds("b", "x23456"));
	close(a);
	close(b);
}

static void test_locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3 };
	int fd = make("f", "0123456789"), other = open("f", O_RDWR), status = -1;
	pid_t pid;

	CHECK(flock(fd, LOCK_EX) == 0);
	CHECK_ERRNO(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK(flock(fd, LOCK_UN) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct flock mine = lock;

		if (fcntl(fd, F_GETLK, &mine) < 0 || mine.l_type != F_WRLCK || mine.l_start != 2)
			_exit(1);
		mine = lock;
		if (fcntl(fd, F_SETLK, &mine) != -1 || errno != EAGAIN)
			_exit(2);
		mine.l_start = 5;
		_exit(fcntl(fd, F_SETLK, &mine) == 0 ? 0 : 3);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(fd);
	close(other);
}

/* ---- attributes ---- */

static void test_times(void)
{
	struct timespec ts[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
	struct stat st, before;
	int fd = make("f", "x");

	CHECK(utimensat(AT_FDCWD, "f", ts, 0) == 0);
	st = look("f");
	CHECK(st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789);
	CHECK(st.st_mtim.tv_sec == 1500000000 && st.st_mtim.tv_nsec == 987654321);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1] = (struct timespec){ -5, 7 };
	CHECK(futimens(fd, ts) == 0);
	st = look("f");
	CHECK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == -5);
	CHECK(futimens(fd, NULL) == 0 && look("f").st_mtim.tv_sec > 1500000000);
	CHECK(utimensat(AT_FDCWD, "f", (struct timespec[2]){ { 7, 0 }, { 8, 0 } }, 0) == 0);
	before = look("f");
	CHECK(pwrite(fd, "y", 1, 0) == 1);
	CHECK(look("f").st_mtim.tv_sec > before.st_mtim.tv_sec);
	CHECK(mkdir("d", 0755) == 0 && utimensat(AT_FDCWD, "d", ts, 0) == 0);
	put("d/new", "");
	CHECK(look("d").st_mtim.tv_sec > 1500000000);
	close(fd);
}

static void test_chmod(void)
{
	put("f", "x");
	CHECK(chmod("f", 04755) == 0 && (look("f").st_mode & 07777) == 04755);
	CHECK(chmod("f", 0) == 0 && (look("f").st_mode & 07777) == 0);
	CHECK(mkdir("d", 01777) == 0 && chmod("d", 03777) == 0);
	CHECK((look("d").st_mode & 07777) == 03777);
	CHECK(chown("f", 0, 0) == 0 && look("f").st_uid == 0 && look("f").st_gid == 0);
	CHECK(chown("f", (uid_t)-1, (gid_t)-1) == 0);
	CHECK_ERRNO(chmod("none", 0), ENOENT);
}

static void user_refused(void)
{
	CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
	CHECK_ERRNO(open("closed/f", O_RDONLY), EACCES);
	CHECK_ERRNO(open("new", O_WRONLY | O_CREAT, 0644), EACCES);
	CHECK_ERRNO(chmod("readable", 0777), EPERM);
	CHECK_ERRNO(chown("readable", 1000, 1000), EPERM);
	CHECK_ERRNO(unlink("readable"), EACCES);
	CHECK_ERRNO(access("readable", W_OK), EACCES);
	CHECK(access("readable", R_OK) == 0 && holds("readable", "r"));
	CHECK_ERRNO(unlink("sticky/f"), EPERM);
}

static void test_permissions(void)
{
	put("secret", "s");
	put("readable", "r");
	CHECK(chmod("secret", 0600) == 0 && mkdir("closed", 0700) == 0);
	CHECK(mkdir("sticky", 0755) == 0 && chmod("sticky", 01777) == 0);
	put("sticky/f", "");
	as_user(user_refused);
}

static void user_makes(void)
{
	put("open/mine", "m");
	CHECK(look("open/mine").st_uid == 1000 && look("open/mine").st_gid == 1000);
	CHECK(mkdir("open/d", 0755) == 0 && look("open/d").st_uid == 1000);
	CHECK(symlink("x", "open/l") == 0 && look("open/l").st_uid == 1000);
	CHECK(mkfifo("open/p", 0600) == 0 && look("open/p").st_uid == 1000);
	CHECK(chmod("open/mine", 04711) == 0 && look("open/mine").st_mode == (S_IFREG | 04711));
	put("setgid/f", "");
	CHECK(look("setgid/f").st_gid == 7 && look("setgid/f").st_uid == 1000);
	CHECK(mkdir("setgid/d", 0755) == 0 && look("setgid/d").st_mode == (S_IFDIR | 02755));
	/* A write by somebody else takes set-uid away. */
	int fd = open("suid", O_WRONLY);

	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
	CHECK(look("suid").st_mode == (S_IFREG | 0777));
}

static void test_owners(void)
{
	CHECK(mkdir("open", 0755) == 0 && chmod("open", 0777) == 0 && mkdir("setgid", 0755) == 0);
	CHECK(chown("setgid", 0, 7) == 0 && chmod("setgid", 02777) == 0);
	put("suid", "");
	CHECK(chmod("suid", 06777) == 0);
	as_user(user_makes);
	put("f", "");
	CHECK(chmod("f", 06755) == 0 && chown("f", 12, 34) == 0);
	CHECK(look("f").st_uid == 12 && look("f").st_gid == 34);
	CHECK((look("f").st_mode & 07777) == 0755);
}

static void test_devices(void)
{
	CHECK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	CHECK(S_ISCHR(look("null").st_mode) && look("null").st_rdev == makedev(1, 3));
	CHECK(mknod("big", S_IFBLK | 0600, makedev(259, 70000)) == 0);
	CHECK(look("big").st_rdev == makedev(259, 70000));
}

static void test_special(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	int r, w;
	char ch = 0;

	CHECK(mkfifo("p", 0600) == 0 && S_ISFIFO(look("p").st_mode));
	r = open("p", O_RDONLY | O_NONBLOCK);
	w = open("p", O_WRONLY);
	CHECK(r >= 0 && w >= 0 && write(w, "q", 1) == 1 && read(r, &ch, 1) == 1 && ch == 'q');
	close(r);
	close(w);
	CHECK(bind(s, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(s, 1) == 0);
	CHECK(S_ISSOCK(look("sock").st_mode));
	CHECK(connect(c, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	close(s);
	close(c);
}

static void test_xattrs(void)
{
	char buf[256], *big = malloc(3000);
	ssize_t n;

	put("f", "");
	memset(big, 'b', 3000);
	CHECK_ERRNO(getxattr("f", "user.none", buf, sizeof(buf)), ENODATA);
	CHECK(setxattr("f", "user.a", "value", 5, 0) == 0);
	CHECK(getxattr("f", "user.a", NULL, 0) == 5);
	CHECK(getxattr("f", "user.a", buf, sizeof(buf)) == 5 && memcmp(buf, "value", 5) == 0);
	CHECK_ERRNO(getxattr("f", "user.a", buf, 2), ERANGE);
	CHECK_ERRNO(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
	CHECK_ERRNO(setxattr("f", "user.b", "x", 1, XATTR_REPLACE), ENODATA);
	CHECK(setxattr("f", "user.empty", "", 0, 0) == 0);
	CHECK(getxattr("f", "user.empty", buf, 9) == 0);
	n = listxattr("f", buf, sizeof(buf));
	CHECK(n == 18 && memmem(buf, (size_t)n, "user.a", 7) != NULL);
	CHECK(n == 18 && memmem(buf, (size_t)n, "user.empty", 11) != NULL);
	CHECK(listxattr("f", NULL, 0) == 18);
	CHECK_ERRNO(listxattr("f", buf, 3), ERANGE);
	CHECK(removexattr("f", "user.a") == 0);
	CHECK_ERRNO(removexattr("f", "user.a"), ENODATA);
	CHECK(setxattr("f", "user.big", big, 3000, 0) == 0);
	CHECK(getxattr("f", "user.big", big, 3000) == 3000);
	CHECK_ERRNO(setxattr("f", "nonsense", "x", 1, 0), EOPNOTSUPP);
	CHECK(mkdir("d", 0755) == 0 && setxattr("d", "user.d", "1", 1, 0) == 0);
	CHECK(symlink("f", "l") == 0);
	CHECK_ERRNO(lsetxattr("l", "user.x", "1", 1, 0), EPERM);
	free(big);
}

static void test_statfs(void)
{
	struct statvfs st;

	CHECK(statvfs(".", &st) == 0 && st.f_blocks > 0 && st.f_bsize > 0 && st.f_namemax == 255);
}

/* An executable runs from it. */
static void test_exec(void)
{
	char self[PATH_MAX], buf[65536];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int from, to, status = -1;
	pid_t pid;

	self[n > 0 ? n : 0] = '\0';
	from = open(self, O_RDONLY);
	to = open("exe", O_WRONLY | O_CREAT, 0755);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		CHECK(write(to, buf, (size_t)n) == n);
	close(from);
	close(to);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl("./exe", "./exe", "--version", (char *)NULL);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* ---- running them ---- */

#define PRIVILEGED 1u

static const struct {
	const char *name;
	void (*run)(void);
	unsigned int needs;
} tests[] = {
	{ "create", test_create, 0 },
	{ "umask", test_umask, 0 },
	{ "rename", test_rename, 0 },
	{ "rename-above", test_rename_above, 0 },
	{ "unlink-open", test_unlink_open, 0 },
	{ "rename-over-open", test_rename_over_open, 0 },
	{ "hard-links", test_hard_links, 0 },
	{ "symlinks", test_symlinks, 0 },
	{ "names", test_names, 0 },
	{ "deep", test_deep, 0 },
	{ "readdir", test_readdir, 0 },
	{ "readdir-types", test_readdir_types, 0 },
	{ "append", test_append, 0 },
	{ "truncate", test_truncate, 0 },
	{ "mmap", test_mmap, 0 },
	{ "mmap-append", test_mmap_append, 0 },
	{ "big-io", test_big_io, 0 },
	{ "direct", test_direct, 0 },
	{ "sparse", test_sparse, 0 },
	{ "copy-range", test_copy_range, 0 },
	{ "locks", test_locks, 0 },
	{ "times", test_times, 0 },
	{ "chmod", test_chmod, 0 },
	{ "permissions", test_permissions, 0 },
	{ "owners", test_owners, PRIVILEGED },
	{ "devices", test_devices, PRIVILEGED },
	{ "special", test_special, 0 },
	{ "xattrs", test_xattrs, 0 },
	{ "statfs", test_statfs, 0 },
	{ "exec", test_exec, 0 },
};

#define N_TESTS (sizeof(tests) / sizeof(tests[0]))

static void run(size_t i, int top, unsigned int have, unsigned int *bad)
{
	char name[64];

	if ((tests[i].needs & ~have) != 0) {
		printf("ok %zu - %s # SKIP the server has no privilege\n", i + 1, tests[i].name);
		return;
	}
	snprintf(name, sizeof(name), "%s.%ld", tests[i].name, (long)getpid());
	failures = 0;
	if (mkdir(name, 0755) < 0 || chdir(name) < 0)
		failed(__LINE__, name);
	else
		tests[i].run();
	if (fchdir(top) < 0)
		failed(__LINE__, "back to the top");
	printf("%sok %zu - %s\n", failures > 0 ? "not " : "", i + 1, tests[i].name);
	fflush(stdout);
	*bad += failures > 0;
}

int main(int argc, char **argv)
{
	unsigned int have = PRIVILEGED, bad = 0;
	int arg = 1, top;

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return 0;
	if (arg < argc && strcmp(argv[arg], "-m") == 0) {
		have &= ~PRIVILEGED;
		arg++;
	}
	if (arg + 1 != argc || chdir(argv[arg]) < 0) {
		fprintf(stderr, "usage: posixfs [-m] DIRECTORY\n");
		return 2;
	}
	umask(022);
	top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	printf("1..%zu\n", N_TESTS);
	for (size_t i = 0; i < N_TESTS; i++)
		run(i, top, have, &bad);
	return bad > 0;
}
