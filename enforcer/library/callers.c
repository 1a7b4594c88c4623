/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tells a program's calls from those that libvirt and its drivers make to themselves: a call comes
 * in, yes or no goes out.
 *
 * Where a call returns to doesn't tell who made it: a callback of the program that ends in a jump
 * to a public function returns into libvirt, and a function under a return probe returns to a page
 * of the kernel's. What does tell is the linkage table that the call went through, as every object
 * has its own. So libvirt's tables are made to lead past us: each slot of libvirt.so.0, of its
 * sister libraries and of its drivers that holds the address of one of our stubs gets the address
 * of the real function. Whatever still arrives at a stub was called by somebody else, however it
 * returns, traced or not.
 *
 * That leaves calls by an object of libvirt that was loaded a moment ago. They are recognised by
 * where they return to, provided that the instruction before that place is a call through that
 * object's own table slot for this very function, which a jump out of a callback can't leave there.
 * Then the object's table is changed as well.
 *
 * An object belongs to libvirt when it is a shared library that defines or needs libvirt's private
 * symbols and lies in the folder of libvirt.so.0 or below: anybody can use those symbols, not
 * everybody can put a file there. Programs that need them (virsh, libvirtd) are programs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "enforcer.h"

#define OBJECTS_KNOWN 128
#define PRIVATE_NODE "LIBVIRT_PRIVATE_"

atomic_bool objects_due = true;

struct range {
	_Atomic(uint64_t) start, end;	/* start is written last; 0: none yet */
};
static struct range ours[OBJECTS_KNOWN];	/* objects of libvirt whose tables lead past us */
static atomic_uint ours_count;
static _Atomic(uint64_t) seen_added, seen_removed;
/* thread that goes through the objects: where its errno is; 0: none */
static _Atomic(uint64_t) scanning;

struct tables {
	uint64_t base;
	const char *strings;
	const ElfW(Sym) *symbols;
	const ElfW(Rela) *rela[2];
	uint64_t rela_size[2];
	const ElfW(Verneed) *needs;
	const ElfW(Verdef) *defines;
};

static void read_tables(uint64_t base, const ElfW(Dyn) *dynamic, struct tables *t)
{
	memset(t, 0, sizeof(*t));
	t->base = base;
	for (const ElfW(Dyn) *d = dynamic; d->d_tag != DT_NULL; d++) {
		uint64_t value = d->d_un.d_ptr;
		const void *address = (const void *)(value < base ? value + base : value);

		switch (d->d_tag) {
		case DT_STRTAB:
			t->strings = address;
			break;
		case DT_SYMTAB:
			t->symbols = address;
			break;
		case DT_RELA:
			t->rela[0] = address;
			break;
		case DT_RELASZ:
			t->rela_size[0] = value;
			break;
		case DT_JMPREL:
			t->rela[1] = address;
			break;
		case DT_PLTRELSZ:
			t->rela_size[1] = value;
			break;
		case DT_VERNEED:
			t->needs = address;
			break;
		case DT_VERDEF:
			t->defines = address;
			break;
		}
	}
}

static bool has_private_symbols(const struct tables *t)
{
	if (!t->strings)
		return false;
	for (const ElfW(Verdef) *v = t->defines; v;) {
		const ElfW(Verdaux) *aux = (const void *)((const char *)v + v->vd_aux);

		if (!strncmp(t->strings + aux->vda_name, PRIVATE_NODE, sizeof(PRIVATE_NODE) - 1))
			return true;
		v = v->vd_next ? (const void *)((const char *)v + v->vd_next) : NULL;
	}
	for (const ElfW(Verneed) *v = t->needs; v;) {
		const ElfW(Vernaux) *aux = (const void *)((const char *)v + v->vn_aux);

		for (unsigned i = 0; i < v->vn_cnt; i++) {
			if (!strncmp(t->strings + aux->vna_name, PRIVATE_NODE,
				     sizeof(PRIVATE_NODE) - 1))
				return true;
			aux = (const void *)((const char *)aux + aux->vna_next);
		}
		v = v->vn_next ? (const void *)((const char *)v + v->vn_next) : NULL;
	}
	return false;
}

static struct stat folder;	/* of libvirt.so.0; st_ino 0: not known */

/* Cuts the last part of the path; false: there is none. */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return false;
	*slash = 0;
	return true;
}

void remember_folder(const char *libvirt)
{
	char path[1024];

	if (append(path, sizeof(path), 0, libvirt) < sizeof(path) - 1 && go_up(path) &&
	    stat(path, &folder))
		folder.st_ino = 0;
}

/* Whether the file is in libvirt's folder or a little below, where its drivers are. */
static bool is_in_folder(const char *file)
{
	char path[1024];
	struct stat one;

	if (!folder.st_ino)
		return true;
	if (append(path, sizeof(path), 0, file) >= sizeof(path) - 1)
		return false;
	for (unsigned i = 0; i < 3 && go_up(path); i++)
		if (!stat(path, &one) && one.st_dev == folder.st_dev && one.st_ino == folder.st_ino)
			return true;
	return false;
}

static bool is_libvirts(const char *file, const struct tables *t)
{
	return file && file[0] && has_private_symbols(t) && is_in_folder(file);
}

/* Whether the object wants a function whose name begins like that from others. */
bool imports(const struct link_map *map, const char *begin)
{
	size_t length = strlen(begin);
	struct tables t;

	read_tables(map->l_addr, map->l_ld, &t);
	for (unsigned i = 0; t.symbols && t.strings && i < 2; i++)
		for (size_t j = 0; j < t.rela_size[i] / sizeof(*t.rela[i]); j++) {
			unsigned symbol = ELF64_R_SYM(t.rela[i][j].r_info);

			const char *name = t.strings + t.symbols[symbol].st_name;

			if (symbol && !strncmp(name, begin, length))
				return true;
		}
	return false;
}

/* The number of the stub at that address; -1: there is none. */
static int stub_at(uint64_t address)
{
	uint64_t offset = address - (uint64_t)enforcer_stubs;

	if (offset >= FUNCTIONS * STUB_BYTES || offset % STUB_BYTES)
		return -1;
	return offset / STUB_BYTES;
}

/* Lets every slot of the object that holds the address of a stub hold that of the real function. */
static void rebind(const struct tables *t, uint64_t relro, uint64_t relro_end)
{
	bool writable = false;

	for (unsigned i = 0; i < 2; i++)
		for (const ElfW(Rela) *r = t->rela[i];
		     r < t->rela[i] + t->rela_size[i] / sizeof(*r); r++) {
			_Atomic(uint64_t) *slot = (_Atomic(uint64_t) *)(t->base + r->r_offset);
			uint64_t real;
			int stub;

			if (!ELF64_R_SYM(r->r_info) || (uint64_t)slot % 8)
				continue;
			stub = stub_at(atomic_load_explicit(slot, memory_order_relaxed));
			/* what a daemon says of its client to others is looked at: client.c */
			if (is_daemon && stub == NUMBER_virConnectSetIdentity)
				continue;
			real = stub < 0 ? 0 : real_of(stub);
			if (!real)
				continue;
			/* the loader protects its slots when it has bound them all */
			if (!writable && (uint64_t)slot - relro < relro_end - relro) {
				if (mprotect((void *)relro, relro_end - relro,
					     PROT_READ | PROT_WRITE))
					return;
				writable = true;
			}
			atomic_store_explicit(slot, real, memory_order_relaxed);
		}
	if (writable)
		mprotect((void *)relro, relro_end - relro, PROT_READ);
}

static bool is_ours(uint64_t address)
{
	unsigned count = atomic_load(&ours_count);

	for (unsigned i = 0; i < count && i < OBJECTS_KNOWN; i++) {
		uint64_t start = atomic_load(&ours[i].start);

		if (start && address - start < atomic_load(&ours[i].end) - start)
			return true;
	}
	return false;
}

static int take_in(struct dl_phdr_info *info, size_t size, void *data)
{
	uint64_t start = UINT64_MAX, end = 0, relro = 0, relro_end = 0,
		 page = sysconf(_SC_PAGESIZE);
	const ElfW(Dyn) *dynamic = NULL;
	struct tables t;
	unsigned i;

	(void)data;
	if (size >= sizeof(*info)) {
		/* how often objects were loaded and unloaded: the same as last time is no news */
		if (info->dlpi_adds == atomic_load(&seen_added) &&
		    info->dlpi_subs == atomic_load(&seen_removed))
			return 1;
	}
	if (!info->dlpi_name || !info->dlpi_name[0])
		return 0;	/* the program itself */
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t address = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_DYNAMIC) {
			dynamic = (const void *)address;
		} else if (p->p_type == PT_GNU_RELRO) {
			relro = address & -page;
			relro_end = (address + p->p_memsz) & -page;
		} else if (p->p_type == PT_LOAD && p->p_flags & PF_X) {
			start = address < start ? address : start;
			end = address + p->p_memsz > end ? address + p->p_memsz : end;
		}
	}
	if (!dynamic || start >= end || is_ours(start))
		return 0;
	read_tables(info->dlpi_addr, dynamic, &t);
	if (!is_libvirts(info->dlpi_name, &t))
		return 0;
	rebind(&t, relro, relro_end);
	i = atomic_fetch_add(&ours_count, 1);
	if (i < OBJECTS_KNOWN) {
		atomic_store(&ours[i].end, end);
		atomic_store(&ours[i].start, start);
	} else {
		atomic_store(&ours_count, OBJECTS_KNOWN);
	}
	return 0;
}

static int remember_counts(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)data;
	if (size >= sizeof(*info)) {
		atomic_store(&seen_added, info->dlpi_adds);
		atomic_store(&seen_removed, info->dlpi_subs);
	}
	return 1;
}

/*
 * Looks for objects of libvirt that were loaded since the last time. The loader's list is under a
 * lock that a fork would leave locked in the child, so forks wait until this is done.
 */
void rebind_all(void)
{
	uint64_t expected = 0, self = (uint64_t)&errno;

	/* else another thread is at it, or this one, and was interrupted by a signal */
	if (!atomic_compare_exchange_strong(&scanning, &expected, self))
		return;
	atomic_store(&objects_due, false);
	dl_iterate_phdr(take_in, NULL);
	dl_iterate_phdr(remember_counts, NULL);
	atomic_store(&scanning, 0);
}

static void before_fork(void)
{
	while (atomic_load(&scanning) && atomic_load(&scanning) != (uint64_t)&errno)
		sched_yield();
}

static void in_child(void)
{
	atomic_store(&scanning, 0);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(before_fork, NULL, in_child);
}

/*
 * Whether the slot belongs to a call of this function: it holds the stub's address, or by now the
 * real one's.
 */
static bool leads_to(uint64_t slot, unsigned number)
{
	uint64_t value = *(uint64_t *)slot;

	return value == (uint64_t)enforcer_stubs + number * STUB_BYTES ||
	       (value && value == real_of(number));
}

#ifdef __x86_64__
static bool is_call_through_table(uint64_t back, unsigned number)
{
	const uint8_t *code = (const uint8_t *)back;
	int32_t distance;

	memcpy(&distance, code - 4, 4);
	if (code[-6] == 0xff && code[-5] == 0x15)	/* call *slot(%rip) */
		return leads_to(back + distance, number);
	if (code[-5] != 0xe8)				/* call table entry */
		return false;
	code = (const uint8_t *)(back + distance);
	if (!is_ours((uint64_t)code))
		return false;
	if (!memcmp(code, "\xf3\x0f\x1e\xfa", 4))	/* endbr64 */
		code += 4;
	code += *code == 0xf2;				/* bnd */
	if (code[0] != 0xff || code[1] != 0x25)		/* jmp *slot(%rip) */
		return false;
	memcpy(&distance, code + 2, 4);
	return leads_to((uint64_t)code + 6 + distance, number);
}
#else
static bool is_call_through_table(uint64_t back, unsigned number)
{
	uint32_t branch, adrp, load;
	const uint32_t *code;
	int64_t page;

	memcpy(&branch, (const void *)(back - 4), 4);
	if (branch >> 26 != 0x25)			/* bl table entry */
		return false;
	code = (const uint32_t *)(back - 4 + (int64_t)(int32_t)(branch << 6) / 16);
	if (!is_ours((uint64_t)code))
		return false;
	code += *code == 0xd503245f;			/* bti c */
	adrp = code[0];
	load = code[1];
	/* adrp x16; ldr x17, [x16, #] */
	if ((adrp & 0x9f00001f) != 0x90000010 || (load & 0xffc003ff) != 0xf9400211)
		return false;
	page = (int64_t)(int32_t)((adrp >> 5 & 0x7ffff) << 13) >> 13;
	page = page * 4 + (adrp >> 29 & 3);
	return leads_to(((uint64_t)code & -4096ULL) + page * 4096 + (load >> 10 & 0xfff) * 8,
			number);
}
#endif

/* Whether the code at that address is of an object of libvirt that was loaded a moment ago. */
static bool is_new_of_libvirt(uint64_t address)
{
	static _Atomic(uint64_t) strangers[256];	/* where calls of others returned to */
	_Atomic(uint64_t) *known = &strangers[(address ^ address >> 8) % 256];
	struct dl_find_object found;
	struct tables t;

	if (LIKELY(atomic_load_explicit(known, memory_order_relaxed) == address))
		return false;
	/* takes no lock; knows no page of the kernel's and no code that was made at run time */
	if (_dl_find_object((void *)address, &found))
		return false;
	read_tables(found.dlfo_link_map->l_addr, found.dlfo_link_map->l_ld, &t);
	if (is_libvirts(found.dlfo_link_map->l_name, &t))
		return true;
	atomic_store_explicit(known, address, memory_order_relaxed);
	return false;
}

bool called_by_libvirt(struct call *call)
{
	uint64_t back = *return_slot(call);

	if (UNLIKELY(atomic_load_explicit(&objects_due, memory_order_relaxed)))
		rebind_all();
	if (is_ours(back))
		return is_call_through_table(back, call->number);
	if (!is_new_of_libvirt(back))
		return false;
	rebind_all();
	return is_ours(back) && is_call_through_table(back, call->number);
}
