/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether each backend can run machines here.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/fd.h"
#include "base/path.h"

void builtin_probe(const struct backend_host *host, struct backend_probe *ret)
{
	*ret = (struct backend_probe){ 0 };
#if defined(__x86_64__)
	ret->usable = host->kvm_usable;
	ret->nested = host->kvm_nested;
	if (ret->usable)
		ret->accelerator = ACCEL_KVM;
	snprintf(ret->text, sizeof(ret->text), "%s%.200s",
		 ret->usable ? "smolvm's own, with KVM" : "needs KVM: ",
		 ret->usable ? "" : host->kvm_text);
#else
	snprintf(ret->text, sizeof(ret->text), "not yet for this kind of processor");
#endif
}

#if defined(__x86_64__)
#define PROGRAM "qemu-system-x86_64"
#define PACKAGE "qemu-system-x86"
#elif defined(__aarch64__)
#define PROGRAM "qemu-system-aarch64"
#define PACKAGE "qemu-system-arm"
#endif

void qemu_probe(const struct backend_host *host, struct backend_probe *ret)
{
	AUTO_FREE char *program = path_find_tool(PROGRAM);

	*ret = (struct backend_probe){ 0 };
	if (!program || strlen(program) >= sizeof(ret->program)) {
		snprintf(ret->text, sizeof(ret->text),
			 "QEMU is not installed: 'sudo apt-get install " PACKAGE
			 "' (Fedora: qemu-kvm, macOS: brew install qemu)");
		return;
	}
	snprintf(ret->program, sizeof(ret->program), "%s", program);
	ret->usable = true;
	ret->accelerator = host->kvm_usable ? ACCEL_KVM : ACCEL_TCG;
	ret->nested = !host->kvm_usable || host->kvm_nested;
	snprintf(ret->text, sizeof(ret->text), "%s, %s", program,
		 host->kvm_usable ? "with KVM" : "emulating the processor (slower than KVM)");
}
