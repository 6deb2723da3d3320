/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command in a machine with a shared folder at /mnt/share, by a way that is asked for.
 *
 *     sharework device|stream BACKEND FOLDER COMMAND [ARGUMENT...]
 */
#include <stdio.h>
#include <string.h>

#include <smolvm/smolvm.h>

int main(int argc, char **argv)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm_exec_result result = { 1, 0 };
	struct smolvm_machine *machine = NULL;
	struct smolvm_share share = { .guest = "/mnt/share" };
	struct smolvm_machine_config config = { .shares = &share, .n_shares = 1 };
	struct smolvm_exec_config command = { .stdin_fd = -1, .stdout_fd = 1, .stderr_fd = 2 };
	struct smolvm_image *image = NULL;
	struct smolvm *s = NULL;
	int rc;

	if (argc < 5)
		return 2;
	config.stream_shares = !strcmp(argv[1], "stream");
	config.backend = argv[2];
	share.host = argv[3];
	command.argv = (const char *const *)argv + 4;
	rc = smolvm_open(&s, NULL, &err);
	rc = rc < 0 ? rc : smolvm_image_get(s, NULL, NULL, &image, &err);
	config.image = image;
	rc = rc < 0 ? rc : smolvm_machine_start(s, &config, &machine, &err);
	rc = rc < 0 ? rc : smolvm_exec(machine, &command, &result, &err);
	if (rc < 0)
		fprintf(stderr, "sharework: %s\n", err.message);
	smolvm_machine_destroy(machine);
	smolvm_image_free(image);
	smolvm_close(s);
	return rc < 0 ? 1 : result.exit_code;
}
