/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tables.c: what a loaded object says of itself. */
#ifndef TABLES_H
#define TABLES_H
#include "enforcer.h"

struct tables {
	uint64_t base;
	const char *strings;
	const ElfW(Sym) *symbols;
	const ElfW(Rela) *rela[2];
	uint64_t rela_size[2];
	const ElfW(Verneed) *needs;
	const ElfW(Verdef) *defines;
};

void read_tables(uint64_t base, const ElfW(Dyn) *dynamic, struct tables *t);
bool is_libvirts(const char *file, const struct tables *t);

#endif
