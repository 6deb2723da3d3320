/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two commands in one virtual machine, with libsmolvm:
 *
 *	cc hello.c $(pkg-config --cflags --libs smolvm) -o hello
 */
#include <stdio.h>

#include <smolvm/smolvm.h>

static int run(struct smolvm_machine *machine, const char *const *argv, struct smolvm_error *err)
{
	struct smolvm_exec_config config = {
		.argv = argv,
		.stdin_fd = -1,
		.stdout_fd = 1,
		.stderr_fd = 2,
	};
	struct smolvm_exec_result result;

	if (smolvm_exec(machine, &config, &result, err))
		return -1;
	return result.signal ? 128 + result.signal : result.exit_code;
}

int main(void)
{
	static const char *const echo[] = { "echo", "hello", NULL };
	static const char *const uname[] = { "uname", "-r", NULL };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm_machine *machine = NULL;
	struct smolvm_image *image = NULL;
	struct smolvm *smolvm = NULL;
	int code = -1;

	if (smolvm_open(&smolvm, NULL, &err) == 0 &&
	    smolvm_image_get(smolvm, SMOLVM_IMAGE_BASE, NULL, &image, &err) == 0 &&
	    smolvm_machine_start(smolvm, &(struct smolvm_machine_config){ .image = image },
				 &machine, &err) == 0) {
		code = run(machine, echo, &err);
		if (code == 0)
			code = run(machine, uname, &err);
	}
	if (code < 0)
		fprintf(stderr, "hello: %s\n", err.message);
	smolvm_machine_destroy(machine);
	smolvm_image_free(image);
	smolvm_close(smolvm);
	return code < 0 ? 125 : code;
}
