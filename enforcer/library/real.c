/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the real functions: libvirt as it is loaded, however it was loaded, comes in; their
 * addresses go out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "enforcer.h"

const struct function functions[FUNCTIONS] = { FUNCTION_ROWS };
_Atomic(uint64_t) reals[FUNCTIONS];

/* The loader's own functions, which ours lead to (enter-ARCH.S); those that are called in here. */
typedef void *find_symbol(void *, const char *);
typedef void *open_library(const char *, int);
__attribute__((visibility("hidden"))) find_symbol *real_dlsym;
__attribute__((visibility("hidden"))) open_library *real_dlopen;

/* Called before anything else is there, a sanitizer's memory included. */
__attribute__((visibility("hidden"), no_sanitize_address)) void find_loader(void)
{
	/* since it moved to libc, before that on x86-64, and on aarch64 */
	static const char *const versions[] = { "GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17" };
	find_symbol *found = NULL;

	for (unsigned i = 0; !found && i < sizeof(versions) / sizeof(versions[0]); i++)
		found = (find_symbol *)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
	if (!found)
		abort();	/* not with glibc */
	real_dlopen = (open_library *)found(RTLD_NEXT, "dlopen");
	real_dlsym = found;
}

/* What a program that looks libvirt's functions up finds. */
__attribute__((visibility("hidden"))) void *find_stub(void *handle, const char *name)
{
	uint64_t found;

	if (!real_dlsym)
		find_loader();
	found = (uint64_t)real_dlsym(handle, name);
	if (!found)
		return NULL;
	if (!atomic_load(&started))
		start();
	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (real_of(i) == found && !strcmp(functions[i].name, name))
			return enforcer_stubs + i * STUB_BYTES;
	return (void *)found;
}

#define LIBRARIES 3
static const char sonames[LIBRARIES][20] = { "libvirt.so.0", "libvirt-qemu.so.0",
					     "libvirt-lxc.so.0" };
static void *_Atomic handles[LIBRARIES];
struct inner inner;

/*
 * Takes the stubs of functions that the loaded libvirt lacks out of our symbol table, so that
 * dlsym() and weak references don't find what isn't there. Before libvirt is loaded nobody knows
 * which those are.
 */
static void hide_missing(unsigned library)
{
	const uint32_t *hash = NULL;
	ElfW(Sym) *symbols = NULL;
	uint64_t first, end, page = sysconf(_SC_PAGESIZE);
	struct link_map *self;
	Dl_info info;

	if (!dladdr1(enforcer_stubs, &info, (void **)&self, RTLD_DL_LINKMAP) || !self)
		return;
	for (const ElfW(Dyn) *d = self->l_ld; d->d_tag != DT_NULL; d++) {
		/* the loader adds the load address in place */
		if (d->d_tag == DT_SYMTAB)
			symbols = (ElfW(Sym) *)d->d_un.d_ptr;
		else if (d->d_tag == DT_HASH)
			hash = (const uint32_t *)d->d_un.d_ptr;
	}
	if (!symbols || !hash)
		return;
	first = (uint64_t)symbols & -page;
	end = (uint64_t)(symbols + hash[1]);
	if (mprotect((void *)first, end - first, PROT_READ | PROT_WRITE))
		return;
	for (uint32_t i = 0; i < hash[1]; i++) {
		uint64_t offset = self->l_addr + symbols[i].st_value - (uint64_t)enforcer_stubs;

		if (!symbols[i].st_shndx || offset >= FUNCTIONS * STUB_BYTES)
			continue;
		if (functions[offset / STUB_BYTES].library != library ||
		    real_of(offset / STUB_BYTES))
			continue;
		symbols[i].st_shndx = SHN_UNDEF;
		symbols[i].st_value = 0;
	}
	mprotect((void *)first, end - first, PROT_READ);
}

#define INNER_SYMBOL(type, name, arguments, symbol) \
	inner.name = (type(*) arguments)real_dlsym(handle, symbol);
static void find_inner(void *handle)
{
	/* GObject is one of libvirt's own libraries, so its functions are found there, too */
	INNER_FUNCTIONS(INNER_SYMBOL)
}

/*
 * What is loaded by now. RTLD_NEXT would find nothing where libvirt was loaded with local scope
 * (Python). The handle is kept, so that a program that unloads libvirt and loads it again finds it
 * where it was. Any number of threads may do this at once: they find the same.
 */
void resolve(void)
{
	if (!real_dlsym)
		find_loader();
	for (unsigned library = 0; library < LIBRARIES; library++) {
		struct link_map *map;
		void *handle;

		if (atomic_load(&handles[library]))
			continue;
		handle = real_dlopen(sonames[library], RTLD_LAZY | RTLD_NOLOAD);
		if (!handle)
			continue;
		for (unsigned i = 0; i < FUNCTIONS; i++) {
			uint64_t real;

			if (functions[i].library != library)
				continue;
			real = (uint64_t)real_dlsym(handle, functions[i].name);
			/*
			 * of libvirt's dependencies none is ours, but whoever preloads strange
			 * things gets no endless loop
			 */
			if (real - (uint64_t)enforcer_stubs < FUNCTIONS * STUB_BYTES)
				real = 0;
			atomic_store_explicit(&reals[i], real, memory_order_relaxed);
		}
		if (!library) {
			find_inner(handle);
			if (!dlinfo(handle, RTLD_DI_LINKMAP, &map))
				remember_folder(map->l_name);
		}
		atomic_store(&handles[library], handle);
		hide_missing(library);
	}
	rebind_all();
}

bool has_libvirt(void)
{
	return atomic_load(&handles[0]);
}
