/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host offers to every backend: a usable KVM, or not.
 */
#include "backend/backend.h"

#include <errno.h>
#include <stdio.h>

#include "base/fd.h"
#include "hypervisor/kvm_probe.h"

/* "Y" or "1" in the parameter of whichever module there is. */
static bool nested_allowed(void)
{
	static const char *const files[] = { "/sys/module/kvm_intel/parameters/nested",
					     "/sys/module/kvm_amd/parameters/nested" };

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		AUTO_FREE char *text = NULL;

		if (file_read(files[i], 16, &text) >= 0 && (text[0] == 'Y' || text[0] == '1'))
			return true;
	}
	return false;
}

static void set(struct backend_host *h, enum kvm_state state)
{
	h->kvm_usable = state == KVM_FINE;
	h->kvm_worth_measuring = false;
	h->kvm_verdict = state;
	snprintf(h->kvm_text, sizeof(h->kvm_text), "%s", kvm_state_text(state));
}

void backend_host_look(struct backend_host *ret)
{
	enum kvm_state state = kvm_probe_open();

	*ret = (struct backend_host){ 0 };
	set(ret, state);
	ret->kvm_nested = nested_allowed();
	if (state == KVM_FINE) {
		ret->kvm_usable = false;
		ret->kvm_worth_measuring = true;
	}
}

void backend_host_measure(struct backend_host *h)
{
	set(h, kvm_probe());
}

int backend_host_recall(struct backend_host *h, int verdict)
{
	/* What is broken may be mended (another hypervisor ends), and is found out quickly. */
	if (verdict != KVM_FINE && verdict != KVM_EMULATING)
		return -EINVAL;
	set(h, (enum kvm_state)verdict);
	return 0;
}
