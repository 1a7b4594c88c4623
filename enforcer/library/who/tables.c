/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a loaded object says of itself: its dynamic section comes in; where its tables are, whether
 * it is libvirt's, and what it imports goes out.
 *
 * An object belongs to libvirt when it is a shared library that defines or needs libvirt's private
 * symbols and lies in the folder of libvirt.so.0 or below: anybody can use those symbols, not
 * everybody can put a file there. Programs that need them (virsh, libvirtd) are programs.
 */
#include <string.h>
#include <sys/stat.h>
#include "tables.h"

#define PRIVATE_NODE "LIBVIRT_PRIVATE_"

void read_tables(uint64_t base, const ElfW(Dyn) *dynamic, struct tables *t)
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

bool is_libvirts(const char *file, const struct tables *t)
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
