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
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tables.h"

#define OBJECTS_KNOWN 128

atomic_bool objects_due = true;

struct range {
	_Atomic(uint64_t) start, end;	/* start is written last; 0: none yet */
};
static struct range ours[OBJECTS_KNOWN];	/* objects of libvirt whose tables lead past us */
static atomic_uint ours_count;
static _Atomic(uint64_t) seen_added, seen_removed;
/* thread that goes through the objects: where its errno is; 0: none */
static _Atomic(uint64_t) scanning;

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

/*
 * Whether the instruction before `back` calls that function through the table of the object, by its
 * slot or by the table's entry.
 */
static bool is_call_through_table(uint64_t back, unsigned number)
{
	uint64_t slot = called_slot(back), entry;

	if (!slot) {
		entry = called_code(back);
		if (!entry || !is_ours(entry))
			return false;
		slot = slot_of_entry(entry);
	}
	return slot && leads_to(slot, number);
}

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
