/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest of the shared-folder server, on a real directory tree.
 *
 * The input is a list of requests: operation, which node, which handle, length of the body, body.
 * Node and handle numbers of earlier answers are put in where the selectors say so; otherwise
 * numbers are what the bytes are. A file outside the shared directory must stay as it is, and its
 * content must never be in an answer; no descriptor may be left over.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fuse.h>

#include "base/path.h"
#include "fileserver/fileserver.h"

#define DATA_MAX     8192u
#define MESSAGE      (DATA_MAX + 4096u)
#define KNOWN        32u
#define REQUESTS_MAX 48u
#define SECRET       "Not for the guest's eyes."

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[64];
static int base_fd = -1;

static void write_file(const char *name, const char *text)
{
	int fd = openat(base_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert(fd >= 0);
	assert(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void clean(void)
{
	path_remove_tree(base);
}

static void prepare(void)
{
	struct rlimit limit = { 1 << 20, 1 << 20 };

	if (base_fd >= 0)
		return;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit); /* nobody fills the disk */
	snprintf(base, sizeof(base), "%s/fuzz-fileserver-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert(mkdtemp(base) != NULL);
	base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(mkdirat(base_fd, "outside", 0755) == 0);
	write_file("outside/secret", SECRET);
	atexit(clean);
}

static void make_tree(void)
{
	char share[80];

	snprintf(share, sizeof(share), "%s/share", base);
	path_remove_tree(share);
	assert(mkdirat(base_fd, "share", 0755) == 0);
	assert(mkdirat(base_fd, "share/d", 0755) == 0);
	assert(mkdirat(base_fd, "share/d/e", 0755) == 0);
	write_file("share/f", "a file");
	write_file("share/d/g", "another");
	assert(symlinkat("../outside/secret", base_fd, "share/l") == 0);
	assert(symlinkat("../outside", base_fd, "share/o") == 0);
	assert(mkfifoat(base_fd, "share/p", 0666) == 0);
}

static void check_outside(void)
{
	char buf[64] = "";
	struct stat st;
	int fd = openat(base_fd, "outside/secret", O_RDONLY);

	assert(fd >= 0 && read(fd, buf, sizeof(buf)) == sizeof(SECRET) - 1);
	assert(strcmp(buf, SECRET) == 0);
	assert(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0644) && st.st_nlink == 1);
	close(fd);
	assert(fstatat(base_fd, "outside", &st, 0) == 0 && st.st_mode == (S_IFDIR | 0755));
	assert(unlinkat(base_fd, "outside", AT_REMOVEDIR) < 0 && errno == ENOTEMPTY);
	assert(unlinkat(base_fd, "outside/secret", 0) == 0);
	assert(unlinkat(base_fd, "outside", AT_REMOVEDIR) == 0); /* nothing else in it */
	assert(mkdirat(base_fd, "outside", 0755) == 0);
	write_file("outside/secret", SECRET);
}

/* ---- one guest ---- */

struct guest {
	struct fileserver *fs;
	uint64_t nodes[KNOWN], handles[KNOWN];
	unsigned int n_nodes, n_handles;
	uint8_t request[MESSAGE], reply[MESSAGE];
};

/* Nodes and handles in the answer, as the operation has them. */
static void learn(struct guest *g, uint32_t opcode, const uint8_t *out, size_t len)
{
	size_t entry = sizeof(struct fuse_entry_out);
	bool opens = opcode == FUSE_OPEN || opcode == FUSE_OPENDIR;

	if (!opens && len >= entry && opcode != FUSE_READ && opcode != FUSE_READDIR)
		memcpy(&g->nodes[g->n_nodes++ % KNOWN], out, 8);
	if (opcode == FUSE_CREATE && len > entry)
		memcpy(&g->handles[g->n_handles++ % KNOWN], out + entry, 8);
	if (opens && len >= 8)
		memcpy(&g->handles[g->n_handles++ % KNOWN], out, 8);
}

static void send(struct guest *g, const uint8_t *head, const uint8_t *body, size_t len)
{
	struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + len),
		.opcode = head[0],
		.unique = 42,
		.nodeid = head[1] & 0x80 ? g->nodes[head[1] % KNOWN] : head[1],
		.uid = 0,
		.gid = 0,
	};
	struct fuse_out_header out;
	ssize_t n;

	memcpy(g->request, &in, sizeof(in));
	memcpy(g->request + sizeof(in), body, len);
	if ((head[2] & 0x80) != 0 && len >= 8)
		memcpy(g->request + sizeof(in), &g->handles[head[2] % KNOWN], 8);
	else if ((head[2] & 0x40) != 0 && len >= 8)
		memcpy(g->request + sizeof(in), &g->nodes[head[2] % KNOWN], 8);
	n = fileserver_handle(g->fs, g->request, in.len, g->reply, sizeof(g->reply));
	assert(n >= 0 && (size_t)n <= sizeof(g->reply));
	if (n == 0)
		return;
	assert((size_t)n >= sizeof(out));
	memcpy(&out, g->reply, sizeof(out));
	assert(out.len == n && out.unique == 42 && out.error <= 0 && out.error > -512);
	assert(memmem(g->reply, (size_t)n, SECRET, sizeof(SECRET) - 1) == NULL);
	learn(g, in.opcode, g->reply + sizeof(out), (size_t)n - sizeof(out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest g;
	struct fileserver_config config = { .data_max = DATA_MAX };
	int before, after;

	prepare();
	before = dup(base_fd);
	close(before);
	if (size > 0)
		config.read_only = (*data & 15) == 15;
	make_tree();
	memset(&g, 0, sizeof(g));
	config.root_fd = openat(base_fd, size > 0 && (*data & 15) == 14 ? "share/f" : "share",
				O_PATH | O_CLOEXEC);
	if (fileserver_create(&g.fs, &config, NULL) < 0)
		abort();
	/* Not as a request at all, then as many. */
	assert(fileserver_handle(g.fs, data, size, g.reply, sizeof(g.reply)) <=
	       (ssize_t)sizeof(g.reply));
	for (unsigned int i = 0; size >= 4 && i < REQUESTS_MAX; i++) {
		size_t len = data[3] < size - 4 ? data[3] : size - 4;

		send(&g, data, data + 4, len);
		data += 4 + len;
		size -= 4 + len;
	}
	fileserver_destroy(g.fs);
	check_outside();
	after = dup(base_fd);
	close(after);
	assert(before == after);
	return 0;
}
