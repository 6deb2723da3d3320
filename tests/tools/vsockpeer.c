/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in a guest: vsockpeer CID PORT [FROM_CID] connects to PORT, sends five bytes and tells what
 * came of it in one line: "refused" (no connection, or one that ends without a byte), "answered",
 * or "cannot: ..." where there are no such sockets. FROM_CID: the address it claims to be, from a
 * privileged port.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define FROM_PORT 700

int main(int argc, char **argv)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK }, from = { .svm_family = AF_VSOCK };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	char byte;

	if (argc < 3 || fd < 0) {
		printf("cannot: %s\n", strerror(errno));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	to.svm_cid = (unsigned int)strtoul(argv[1], NULL, 10);
	to.svm_port = (unsigned int)strtoul(argv[2], NULL, 10);
	if (argc > 3) {
		from.svm_cid = (unsigned int)strtoul(argv[3], NULL, 10);
		from.svm_port = FROM_PORT;
		if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0) {
			puts("refused"); /* it may not even claim it */
			return 0;
		}
	}
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 || write(fd, "hello", 5) < 0 ||
	    shutdown(fd, SHUT_WR) < 0 || read(fd, &byte, 1) <= 0)
		puts("refused");
	else
		puts("answered");
	return 0;
}
