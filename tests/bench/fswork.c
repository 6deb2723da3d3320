/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four jobs in a shared folder, run inside of a guest; prints what each took.
 *
 *     fswork FOLDER MIB FILES
 *
 * write:  one file of MIB, in pieces of 1 MiB, and fsync
 * read:   the same file, the guest's page cache dropped before
 * create: FILES files of a few bytes in a new folder
 * stat:   list that folder and stat each, the guest's caches dropped before
 *
 * One line for each: its name and nanoseconds. The caller removes what was made. Where the caches
 * cannot be dropped this is an error: what would be measured then is memory.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1 << 20)

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char *what)
{
	printf("fswork: ");
	fflush(stdout);
	perror(what);
	exit(1);
}

static void drop_caches(void)
{
	int fd;

	sync();
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd < 0 || write(fd, "3\n", 2) != 2)
		die("/proc/sys/vm/drop_caches");
	close(fd);
}

static void write_job(const char *path, char *piece, int mib)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0)
		die(path);
	for (int i = 0; i < mib; i++) {
		for (int done = 0; done < PIECE;) {
			ssize_t n = write(fd, piece + done, (size_t)(PIECE - done));

			if (n <= 0)
				die("write");
			done += (int)n;
		}
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		die("fsync");
}

static void read_job(const char *path, char *piece, int mib)
{
	int fd = open(path, O_RDONLY);
	long long total = 0;
	ssize_t n;

	if (fd < 0)
		die(path);
	while ((n = read(fd, piece, PIECE)) > 0)
		total += n;
	if (n < 0 || total != (long long)mib * PIECE)
		die("read");
	close(fd);
}

static void create_job(const char *folder, int files)
{
	char path[512];

	if (mkdir(folder, 0755) < 0)
		die(folder);
	for (int i = 0; i < files; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/file-%05d", folder, i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, path, 8) != 8 || close(fd) < 0)
			die(path);
	}
}

static void stat_job(const char *folder, int files)
{
	DIR *dir = opendir(folder);
	struct dirent *e;
	struct stat st;
	int found = 0;

	if (!dir)
		die(folder);
	while ((e = readdir(dir))) {
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			die(e->d_name);
		found += S_ISREG(st.st_mode);
	}
	closedir(dir);
	if (found != files) {
		printf("fswork: %d files of %d\n", found, files);
		exit(1);
	}
}

static void report(const char *name, long long since)
{
	printf("%s %lld\n", name, now_ns() - since);
}

int main(int argc, char **argv)
{
	int mib = argc > 3 ? (int)strtol(argv[2], NULL, 10) : 0;
	int files = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
	char *piece = malloc(PIECE);
	char file[256], folder[256];
	long long start;

	if (mib <= 0 || files <= 0 || !piece) {
		puts("usage: fswork FOLDER MIB FILES");
		return 2;
	}
	for (int i = 0; i < PIECE; i++)
		piece[i] = (char)(i * 7 + i / 251);
	snprintf(file, sizeof(file), "%s/big", argv[1]);
	snprintf(folder, sizeof(folder), "%s/many", argv[1]);

	start = now_ns();
	write_job(file, piece, mib);
	report("write", start);
	drop_caches();
	start = now_ns();
	read_job(file, piece, mib);
	report("read", start);
	start = now_ns();
	create_job(folder, files);
	report("create", start);
	drop_caches();
	start = now_ns();
	stat_job(folder, files);
	report("stat", start);
	free(piece);
	return 0;
}
