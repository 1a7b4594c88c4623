/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the objects that a call is about: its arguments come in; names and UUIDs go out.
 *
 * In a client a handle's name is what the program has asked for. In a daemon the handle was made of
 * what came over the wire: drivers go by the UUID, so the name proves nothing there, and the driver
 * is asked for its own one. Where drivers go by names (volumes, interfaces, devices, bindings,
 * snapshots), the handle's is as good as the driver's.
 */
#include <string.h>
#include "handles.h"

typedef void *lookup(void *, const uint8_t *);
typedef int release(void *);

static struct object *add(struct question *ask, enum object_type type)
{
	struct object *object;

	if (ask->object_count == OBJECTS) {
		ask->is_uncertain_list = true;
		return NULL;
	}
	object = &ask->objects[ask->object_count++];
	memset(object, 0, sizeof(*object));
	object->type = type;
	object->has_name = object->has_uuid = UNKNOWN;	/* "no" takes a reason */
	return object;
}

static void set_name(struct object *object, const char *name)
{
	object->has_name = name ? YES : NO;
	object->name = name;
	object->length = name ? strlen(name) : 0;
}

static void note_mismatch(struct question *ask, const char *says, const char *is)
{
	size_t length = 0;

	if (ask->note[0])
		return;
	length = append(ask->note, sizeof(ask->note), length, "the handle says \"");
	length = append(ask->note, sizeof(ask->note), length, says);
	length = append(ask->note, sizeof(ask->note), length, "\", the driver \"");
	length = append(ask->note, sizeof(ask->note), length, is);
	append(ask->note, sizeof(ask->note), length, "\"");
}

/* Whoever reads the record later can't know it otherwise. */
static void note_no_object(struct question *ask)
{
	if (!ask->note[0])
		append(ask->note, sizeof(ask->note), 0, "the driver knows no such object");
}

/* The driver's own name for the UUID in the handle. */
static void ask_driver(struct question *ask, struct object *object, const void *handle)
{
	const struct layout *layout = &layouts[object->type];
	const char *says = text_at(handle, layout->name), *is;
	uint64_t find = real_of(layout->lookup);
	void *conn = (void *)text_at(handle, layout->conn), *own = NULL;

	begin_looking(ask);
	if (find)
		own = ((lookup *)find)(conn, object->uuid);
	object->lookup = own;
	if (!own || !is_known(ask, object->type, own)) {
		object->has_name = UNKNOWN;
		note_no_object(ask);
		return;
	}
	is = text_at(own, layout->name);
	set_name(object, is);
	if (says && is && strcmp(says, is))
		note_mismatch(ask, says, is);
}

/* `is_found`: libvirt itself has just made it, so its name is the driver's. NULL is no object. */
static struct object *add_handle(struct question *ask, enum object_type type, const void *handle,
				 bool is_found)
{
	const struct layout *layout = &layouts[type];
	struct object *object;

	if (!handle)
		return NULL;
	if ((type == SNAPSHOT || type == CHECKPOINT || type == NETWORKPORT) &&
	    is_known(ask, type, handle)) {
		/* it is named by what it belongs to */
		object = add_handle(ask, layout->parent_type,
				    (const void *)text_at(handle, layout->parent), is_found);
		if (object && object->has_name == YES && layout->name) {
			struct object *inner = add(ask, type);

			if (inner) {
				struct object *parent = &ask->objects[ask->object_count - 2];

				inner->has_uuid = NO;
				set_name(inner, text_at(handle, layout->name));
				inner->parent = parent->name;
				inner->parent_is_name = true;
			}
		}
		return object;
	}
	object = add(ask, type);
	if (!object)
		return NULL;
	if (!is_known(ask, type, handle))
		return object;
	object->has_uuid = NO;
	if (layout->uuid) {
		object->has_uuid = YES;
		memcpy(object->uuid, (const char *)handle + layout->uuid, 16);
	}
	if (is_daemon && layout->lookup && !is_found) {
		ask_driver(ask, object, handle);
		return object;
	}
	set_name(object, text_at(handle, layout->name));
	if (layout->parent_type == POOL)
		object->parent = text_at(handle, layout->parent);
	return object;
}

static enum xml_shape shape_of(enum object_type type)
{
	switch (type) {
	case INTERFACE:
	case NWFILTER:
		return NAME_ATTRIBUTE;
	case BINDING:
		return PORTDEV_ATTRIBUTE;
	case SECRET:
		return USAGE;
	case POOL:
		return POOL_NAME;
	default:
		return NAME_CHILD;
	}
}

/* A volume's name is one in the pool that the call names before it. */
static void set_pool(struct question *ask, struct object *volume)
{
	if (volume == ask->objects || !volume[-1].only_parent)
		return;
	if (volume[-1].has_name == YES)
		volume->parent = volume[-1].name;
	else
		volume->misses_parent = true;
}

static void add_xml(struct question *ask, const struct source *source, const char *xml)
{
	struct object *object = xml ? add(ask, source->type) : NULL;
	struct xml_identity found;

	if (!object || !is_readable(xml))
		return;
	found = read_xml_identity(xml, shape_of(source->type));
	object->has_name = found.has_name;
	object->name = found.name;
	object->length = found.length;
	object->has_uuid = found.has_uuid;
	memcpy(object->uuid, found.uuid, 16);
	set_pool(ask, object);
}

/*
 * The value of a virTypedParameter of that name; *is_string: whether it is one. NULL: there is
 * none.
 * Migrations name their destination there.
 */
static const char *find_param(const char *params, int count, const char *name, bool *is_string)
{
	for (; count > 0 && is_readable(params) && is_readable(params + PARAM_BYTES - 8);
	     count--, params += PARAM_BYTES)
		if (!strncmp(params, name, PARAM_TYPE)) {
			*is_string = *(const int *)(params + PARAM_TYPE) == PARAM_STRING;
			return text_at(params, PARAM_VALUE);
		}
	return NULL;
}

static void add_params(struct question *ask, const struct source *source)
{
	const char *params = (const char *)argument(ask->call, source->argument), *value;
	int count = argument(ask->call, source->second);
	bool is_string;

	value = find_param(params, count, "destination_name", &is_string);
	if (value) {
		struct object *object = add(ask, source->type);

		if (object && is_string)
			set_name(object, string_at((uint64_t)value));
	}
	value = find_param(params, count, "destination_xml", &is_string);
	if (value)
		add_xml(ask, source, is_string ? value : "");
}

const char *document_of(struct call *call, unsigned number)
{
	const char *value;
	bool is_string;

	if (!(number & IN_PARAMS))
		return string_at(argument(call, number));
	number &= ~IN_PARAMS;
	value = find_param((const char *)argument(call, number), argument(call, number + 1),
			   "destination_xml", &is_string);
	return value && is_string ? string_at((uint64_t)value) : NULL;
}

static void add_name(struct question *ask, enum object_type type, uint64_t value)
{
	struct object *object = value ? add(ask, type) : NULL;

	if (!object)
		return;
	object->has_uuid = NO;
	if (is_readable((const void *)value))
		set_name(object, (const char *)value);
	set_pool(ask, object);
}

/*
 * What a lookup finds: it changes nothing, so it is made twice, first to see what it would give
 * away. Of a name that nothing has, the name is judged.
 */
static void add_found(struct question *ask, const struct source *source)
{
	typedef void *lookup_call(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
	const uint64_t *args = ask->call->args;
	struct object *object;
	lookup_call *lookup;
	void *own;

	begin_looking(ask);
	lookup = (lookup_call *)real_of(ask->call->number);
	own = lookup(args[0], args[1], args[2], args[3], args[4], args[5]);
	object = add_handle(ask, source->type, own, true);
	if (object)
		object->lookup = own;
	else if (source->second)
		add_name(ask, source->type, argument(ask->call, source->second));
}

/*
 * Each handle of a list is judged as if it were alone; NULL ends it. The number of the handle that
 * comes next; 0: there is none.
 */
unsigned next_handle(struct question *ask, unsigned number)
{
	const struct source *source = at(ask->head, ask->row->sources);
	const void *const *list;

	if (!ask->row->source_count || source->kind != BY_HANDLES)
		return 0;
	list = (const void *const *)argument(ask->call, source->argument);
	forget_objects(ask);
	if (!is_readable(list + number) || !list[number])
		return 0;
	ask->have_objects = true;
	add_handle(ask, source->type, list[number], false);
	return number + 1;
}

/* Whether libvirt refuses the call because it is not made on what it has to be made on. */
bool is_refused(struct question *ask)
{
	const struct source *source = at(ask->head, ask->row->sources);

	if (!ask->row->source_count || source->argument)
		return false;
	if (source->kind != BY_HANDLE && source->kind != BY_CONNECTION && source->kind != IN_POOL)
		return false;
	return is_handle(source->type, (const void *)ask->call->args[0]) == NO;
}

void find_objects(struct question *ask)
{
	const struct source *source = at(ask->head, ask->row->sources);

	if (ask->have_objects)
		return;
	ask->have_objects = true;
	for (unsigned i = 0; i < ask->row->source_count; i++, source++) {
		uint64_t value = argument(ask->call, source->argument);
		struct object *object;

		switch (source->kind) {
		case BY_HANDLE:
			add_handle(ask, source->type, (const void *)value, false);
			break;
		case IN_POOL:
			object = add_handle(ask, POOL, (const void *)value, false);
			if (object)
				object->only_parent = true;
			break;
		case BY_NAME:
			add_name(ask, source->type, value);
			break;
		case BY_XML:
			if (value)
				add_xml(ask, source, (const char *)value);
			break;
		case BY_PARAMS:
			add_params(ask, source);
			break;
		case BY_FOUND:
			add_found(ask, source);
			break;
		case BY_HANDLE_OR_ALL:
			if (value)
				add_handle(ask, source->type, (const void *)value, false);
			else	/* which of them there are, or will be, can't be told */
				add(ask, source->type);
			break;
		case BY_UNKNOWN:
			add(ask, source->type);
			break;
		}
	}
}

void forget_objects(struct question *ask)
{
	for (unsigned i = 0; i < ask->object_count; i++) {
		struct object *object = &ask->objects[i];
		uint64_t give_back = real_of(layouts[object->type].release);

		if (object->lookup && give_back)
			((release *)give_back)(object->lookup);
		object->lookup = NULL;
	}
	ask->object_count = 0;
	ask->have_objects = false;
}
