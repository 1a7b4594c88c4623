/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a handle of libvirt's is: memory of the program comes in; which kind of object it is, and
 * whether its fields are where they should be, goes out.
 *
 * Offsets are in probes/internals/gobject.py. Nothing is believed because of a version: the first
 * handle of each kind is compared with what libvirt's own accessor says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "handles.h"

typedef const char *text_accessor(void *);
typedef int uuid_accessor(void *, uint8_t *);

const struct layout layouts[OBJECT_TYPES] = { LAYOUTS };

_Atomic(uint64_t) classes[OBJECT_TYPES];

/*
 * Whether eight bytes can be read there, without a fault and without a system call that a sandbox
 * may forbid: the kernel reads the signals before it finds out that there is no such operation on
 * them.
 */
bool is_readable(const void *address)
{
	uint64_t word = (uint64_t)address & -8UL;

	return word >= 4096 &&
	       (syscall(SYS_rt_sigprocmask, -1, word, NULL, 8) == 0 || errno == EINVAL);
}

/* What an argument that should be a string is; NULL: it is none. */
const char *string_at(uint64_t value)
{
	return is_readable((const void *)value) ? (const char *)value : NULL;
}

/*
 * libvirt's functions that are asked along the way may be traced: this says that they are no calls
 * of the program.
 */
void begin_looking(struct question *ask)
{
	if (!ask->looking)
		say_verdict(ask, SAYS_LOOKING, NULL, NULL);
	ask->looking = true;
}

/*
 * Whether libvirt takes the handle for one of that kind. It refuses others with an error of its own
 * before it looks at anything else. The first word of an object is its class, and the first of that
 * is its type.
 */
enum certainty is_handle(enum object_type type, const void *handle)
{
	static _Atomic(uint64_t) good[OBJECT_TYPES];	/* class */
	const uint64_t *class;
	const char *name;

	if (!handle || (uint64_t)handle % 8 || (uint64_t)handle < 4096)
		return NO;
	class = *(const uint64_t *const *)handle;
	if ((uint64_t)class == atomic_load_explicit(&good[type], memory_order_relaxed))
		return YES;
	if (!inner.type_name || !layouts[type].class)
		return UNKNOWN;
	if (!is_readable(class) || !is_readable((const void *)*class))
		return NO;
	name = inner.type_name(*class);
	if (!name || strcmp(name, layouts[type].class))
		return NO;
	atomic_store(&good[type], (uint64_t)class);
	return YES;
}

/*
 * Whether the handle's fields are where `layouts` says. The first word of an object is its class,
 * as libvirt checks itself.
 */
bool is_known(struct question *ask, enum object_type type, const void *handle)
{
	uint64_t class, known = atomic_load_explicit(&classes[type], memory_order_relaxed);
	const struct layout *layout = &layouts[type];
	uint64_t accessor = real_of(layout->accessor);
	bool right;

	if (!layout->accessor || known == 1 || is_handle(type, handle) != YES)
		return false;
	class = *(const uint64_t *)handle;
	if (known)
		return class == known;
	if (!accessor)
		return false;
	begin_looking(ask);
	if (layout->checks_uuid) {
		uint8_t uuid[16];

		if (((uuid_accessor *)accessor)((void *)handle, uuid))
			return false;
		right = !memcmp(uuid, (const char *)handle + layout->uuid, 16);
	} else {
		const char *name = ((text_accessor *)accessor)((void *)handle);

		if (!name)
			return false;	/* not a handle at all */
		right = name == text_at(handle, layout->name);
	}
	atomic_store(&classes[type], right ? class : 1);
	if (!right)
		alert("libvirt's objects have an unknown layout, "
		      "so that rules on names match all of them", functions[layout->accessor].name);
	return right;
}
