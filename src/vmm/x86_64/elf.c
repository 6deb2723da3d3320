/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF kernel: its segments go to their physical addresses. It is entered where its PVH note
 * says (Xen's XEN_ELFNOTE_PHYS32_ENTRY), and as a 64-bit kernel at e_entry without such a note.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "vmm/x86_64/layout.h"
#include "vmm/x86_64/load.h"

#define SEGMENTS_MAX   64
#define NOTES_MAX      65536u
#define NOTE_PVH_ENTRY 18

bool elf_is(const struct kernel *k)
{
	return k->head_bytes >= SELFMAG && memcmp(k->head, ELFMAG, SELFMAG) == 0;
}

static const char *machine_name(unsigned int machine)
{
	switch (machine) {
	case EM_AARCH64:
		return "arm64";
	case EM_RISCV:
		return "RISC-V";
	case EM_386:
		return "32-bit x86";
	default:
		return "another processor";
	}
}

static int check_header(const struct kernel *k, const Elf64_Ehdr *h, struct smolvm_error *err)
{
	if (k->head_bytes < sizeof(*h))
		return err_set(err, ENOEXEC, "the kernel is truncated: its ELF header is cut off");
	if (h->e_ident[EI_DATA] != ELFDATA2LSB ||
	    (h->e_machine != EM_X86_64 && h->e_machine != EM_386))
		return err_set(err, ENOEXEC, "the kernel is for %s, this machine is x86_64",
			       h->e_ident[EI_DATA] == ELFDATA2LSB ? machine_name(h->e_machine) :
								    "another processor");
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != EM_X86_64)
		return err_set(err, ENOEXEC, "the kernel is a 32-bit one; a 64-bit one is needed");
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return err_set(err, ENOEXEC, "the kernel is no executable: an object file?");
	if (h->e_phentsize != sizeof(Elf64_Phdr) || !h->e_phnum || h->e_phnum > SEGMENTS_MAX)
		return err_set(err, ENOEXEC, "the kernel's program headers are malformed "
			       "(%u of %u bytes; at most %u)", h->e_phnum, h->e_phentsize,
			       SEGMENTS_MAX);
	return 0;
}

static int load_segment(struct kernel *k, const Elf64_Phdr *p, struct smolvm_error *err)
{
	if (p->p_filesz > p->p_memsz || p->p_paddr + p->p_memsz < p->p_paddr)
		return err_set(err, ENOEXEC, "the kernel is damaged: a segment of odd sizes");
	if (!p->p_memsz)
		return 0;
	if (p->p_paddr < LAYOUT_KERNEL_MIN)
		return err_set(err, ENOEXEC, "the kernel wants to be loaded at %#llx; below %#x "
			       "lie the machine's tables", (unsigned long long)p->p_paddr,
			       LAYOUT_KERNEL_MIN);
	if (!gmem_slice(k->mem, p->p_paddr, p->p_memsz))
		return err_set(err, E2BIG, "the kernel does not fit into the guest's memory: it "
			       "needs %#llx bytes at %#llx", (unsigned long long)p->p_memsz,
			       (unsigned long long)p->p_paddr);
	if (p->p_paddr + p->p_memsz > k->end)
		k->end = p->p_paddr + p->p_memsz;
	return p->p_filesz ? kernel_read(k, p->p_offset, p->p_paddr, p->p_filesz, err) : 0;
}

/* The entry that one note names; 0: none. */
static uint64_t note_entry(const Elf64_Nhdr *n, const uint8_t *name, const uint8_t *desc)
{
	if (n->n_type != NOTE_PVH_ENTRY || n->n_namesz != 4 || memcmp(name, "Xen", 4) != 0)
		return 0;
	if (n->n_descsz == 8)
		return get_le64(desc);
	return n->n_descsz == 4 ? get_le32(desc) : 0;
}

/* Notes are a header, a name and a description, the latter two padded to @align. */
static uint64_t find_entry(const uint8_t *p, uint64_t bytes, uint64_t align)
{
	Elf64_Nhdr n;

	for (uint64_t at = 0; bytes - at >= sizeof(n);) {
		uint64_t name = at + sizeof(n), desc, next, entry;

		memcpy(&n, p + at, sizeof(n));
		desc = name + ((n.n_namesz + align - 1) & ~(align - 1));
		next = desc + ((n.n_descsz + align - 1) & ~(align - 1));
		if (desc > bytes || n.n_descsz > bytes - desc)
			return 0;
		entry = note_entry(&n, p + name, p + desc);
		if (entry || next > bytes)
			return entry;
		at = next;
	}
	return 0;
}

static int read_notes(struct kernel *k, const Elf64_Phdr *p, struct smolvm_error *err)
{
	AUTO_FREE uint8_t *notes = NULL;
	ssize_t n;

	if (p->p_filesz > NOTES_MAX || p->p_offset > k->bytes ||
	    p->p_filesz > k->bytes - p->p_offset)
		return err_set(err, ENOEXEC, "the kernel is damaged: its notes lie outside of it");
	if (!p->p_filesz || k->entry == HV_ENTRY_PVH)
		return 0;
	notes = malloc(p->p_filesz);
	if (!notes)
		return err_nomem(err);
	n = fd_pread_full(k->fd, notes, p->p_filesz, (off_t)p->p_offset);
	if (n < 0)
		return err_set(err, EIO, "cannot read the kernel: %s", strerror((int)-n));
	k->ip = find_entry(notes, (uint64_t)n, p->p_align == 8 ? 8 : 4);
	if (k->ip)
		k->entry = HV_ENTRY_PVH;
	return 0;
}

/* It begins in one of its segments, or something is wrong. */
static int check_entry(const struct kernel *k, const uint8_t *headers, unsigned int count,
		       struct smolvm_error *err)
{
	for (unsigned int i = 0; i < count; i++) {
		Elf64_Phdr p;

		memcpy(&p, headers + i * sizeof(p), sizeof(p));
		if (p.p_type == PT_LOAD && k->ip >= p.p_paddr && k->ip - p.p_paddr < p.p_filesz)
			return 0;
	}
	return err_set(err, ENOEXEC, "the kernel's entry %#llx lies outside of what is loaded",
		       (unsigned long long)k->ip);
}

int elf_load(struct kernel *k, struct smolvm_error *err)
{
	uint8_t headers[SEGMENTS_MAX * sizeof(Elf64_Phdr)];
	unsigned int bytes;
	Elf64_Phdr p;
	Elf64_Ehdr h;
	int r;

	memset(&h, 0, sizeof(h));
	memcpy(&h, k->head, k->head_bytes < sizeof(h) ? k->head_bytes : sizeof(h));
	r = check_header(k, &h, err);
	if (r)
		return r;
	bytes = h.e_phnum * (unsigned int)sizeof(p);
	if (h.e_phoff > k->bytes || bytes > k->bytes - h.e_phoff ||
	    fd_pread_full(k->fd, headers, bytes, (off_t)h.e_phoff) != (ssize_t)bytes)
		return err_set(err, ENOEXEC,
			       "the kernel is truncated: its program headers are cut off");
	k->entry = HV_ENTRY_LINUX64;
	for (unsigned int i = 0; i < h.e_phnum && !r; i++) {
		memcpy(&p, headers + i * sizeof(p), sizeof(p));
		if (p.p_type == PT_LOAD)
			r = load_segment(k, &p, err);
		else if (p.p_type == PT_NOTE)
			r = read_notes(k, &p, err);
	}
	if (r)
		return r;
	if (k->entry == HV_ENTRY_LINUX64)
		k->ip = h.e_entry;
	return check_entry(k, headers, h.e_phnum, err);
}
