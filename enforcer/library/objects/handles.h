/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* handles.c: what is known of libvirt's handles. */
#ifndef HANDLES_H
#define HANDLES_H
#include "enforcer.h"

struct layout {
	const char *class;			/* the object's class, as GObject names it */
	uint16_t accessor;			/* numbers of functions; 0: it has none */
	uint8_t conn, name, uuid, parent;	/* offsets; 0: it has none */
	bool checks_uuid;			/* the accessor gives the UUID, not the name */
	enum object_type parent_type;		/* of `parent`; POOL: a string */
	uint16_t lookup, release;		/* how a driver goes by the UUID */
};
extern const struct layout layouts[OBJECT_TYPES];
/* of handles whose layout was found right; 1: it was found wrong */
extern _Atomic(uint64_t) classes[OBJECT_TYPES];

bool is_readable(const void *address);
const char *string_at(uint64_t value);
void begin_looking(struct question *ask);
enum certainty is_handle(enum object_type type, const void *handle);
bool is_known(struct question *ask, enum object_type type, const void *handle);
static inline const char *text_at(const void *object, unsigned offset)
{
	return *(const char *const *)((const char *)object + offset);
}

#endif
