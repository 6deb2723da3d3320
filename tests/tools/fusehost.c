/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts the shared-folder server on this very host, so that it can be tested without a machine:
 *
 *	fusehost [-r] [-s] [-u UID] [-n FILES] SOURCE MOUNTPOINT
 *
 * Returns once it is mounted; the server runs on in the background until it is unmounted.
 * -r: read-only. -u: serve without privilege, as this user, who is root in the mount.
 * -n: so many open files at most. -s: at the end, print how many requests of each kind there
 * were to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fileserver/fileserver.h"

#define DATA_MAX    (1u << 20)
#define MESSAGE_MAX (DATA_MAX + 4096u)
#define KINDS       64u

struct options {
	bool read_only, statistics;
	uid_t uid;
	long files;
};

static void die(const char *what)
{
	fprintf(stderr, "fusehost: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int mount_fuse(int root, const char *target)
{
	char options[160];
	struct stat st;
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (dev < 0)
		die("/dev/fuse");
	if (fstat(root, &st) < 0)
		die("fstat");
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions,allow_other", dev,
		 st.st_mode & S_IFMT);
	if (mount("smolvm", target, "fuse", 0, options) < 0)
		die("mount");
	return dev;
}

static void become(const struct options *o)
{
	struct rlimit limit = { (rlim_t)o->files, (rlim_t)o->files };

	if (o->files > 0 && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	if (o->uid != 0 && (setgroups(0, NULL) < 0 || setresgid(o->uid, o->uid, o->uid) < 0 ||
			    setresuid(o->uid, o->uid, o->uid) < 0))
		die("setresuid");
}

static void serve(struct fileserver *fs, int dev, unsigned long *counts)
{
	uint8_t *request = malloc(MESSAGE_MAX), *reply = malloc(MESSAGE_MAX);

	if (request == NULL || reply == NULL)
		die("malloc");
	for (;;) {
		ssize_t n = read(dev, request, MESSAGE_MAX), len;
		struct fuse_in_header head;

		if (n < 0 && errno == ENODEV)
			break;
		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < 0)
			die("reading /dev/fuse");
		memcpy(&head, request, sizeof(head));
		counts[head.opcode % KINDS]++;
		len = fileserver_handle(fs, request, (size_t)n, reply, MESSAGE_MAX);
		if (len < 0) {
			errno = (int)-len;
			die("the server gave up");
		}
		/* ENOENT: the request was interrupted meanwhile. */
		if (len > 0 && write(dev, reply, (size_t)len) < 0 && errno != ENOENT)
			die("writing /dev/fuse");
	}
	free(request);
	free(reply);
}

static void background(const struct options *o, int root, int dev)
{
	struct fileserver_config config = { root, o->read_only, DATA_MAX };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	unsigned long counts[KINDS] = { 0 };
	struct fileserver *fs;

	become(o);
	if (fileserver_create(&fs, &config, &err) < 0) {
		fprintf(stderr, "fusehost: %s\n", err.message);
		exit(1);
	}
	fileserver_set_guest_user(fs, 0, 0);
	serve(fs, dev, counts);
	fileserver_destroy(fs);
	for (unsigned int i = 0; o->statistics && i < KINDS; i++) {
		if (counts[i] > 0)
			fprintf(stderr, "# requests of kind %u: %lu\n", i, counts[i]);
	}
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	int c, root, dev;
	pid_t pid;

	while ((c = getopt(argc, argv, "rsu:n:")) != -1) {
		switch (c) {
		case 'r':
			o.read_only = true;
			break;
		case 's':
			o.statistics = true;
			break;
		case 'u':
			o.uid = (uid_t)atol(optarg);
			break;
		case 'n':
			o.files = atol(optarg);
			break;
		default:
			return 2;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: fusehost [-r] [-s] [-u UID] [-n FILES] SOURCE TARGET\n");
		return 2;
	}
	root = open(argv[optind], O_PATH | O_CLOEXEC);
	if (root < 0)
		die(argv[optind]);
	dev = mount_fuse(root, argv[optind + 1]);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (!o.statistics) /* nobody waits for the end of our output */
			(void)!freopen("/dev/null", "w", stderr);
		(void)!freopen("/dev/null", "w", stdout);
		background(&o, root, dev);
	}
	return 0;
}
