/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes come in as an XML document; what the reader of names is sure of must be what libxml2 finds.
 */
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <stdlib.h>
#include <string.h>
#include "enforcer.h"

static void ignore(void *data, const char *format, ...)
{
	(void)data;
	(void)format;
}

static xmlChar *find(xmlDocPtr document, const char *path)
{
	xmlXPathContextPtr context = xmlXPathNewContext(document);
	xmlXPathObjectPtr object;
	xmlChar *text = NULL;

	context->node = xmlDocGetRootElement(document);
	object = xmlXPathEval(BAD_CAST path, context);
	if (object && object->type == XPATH_STRING && object->stringval && *object->stringval)
		text = xmlStrdup(object->stringval);
	xmlXPathFreeObject(object);
	xmlXPathFreeContext(context);
	return text;
}

static void compare(const char *xml, xmlDocPtr document, enum xml_shape shape, const char *path)
{
	struct xml_identity found = read_xml_identity(xml, shape);
	xmlChar *name, *uuid;
	uint8_t parsed[16];

	if (!document)
		return;
	name = find(document, path);
	uuid = find(document, "string(./uuid[1])");
	if (found.has_name == YES &&
	    (name ? strlen((char *)name) != found.length || memcmp(name, found.name, found.length)
		  : found.length))
		abort();
	if (found.has_name == NO && name)
		abort();
	if (found.has_uuid == YES &&
	    (!uuid || !read_uuid((char *)uuid, strlen((char *)uuid), parsed) ||
	     memcmp(parsed, found.uuid, 16)))
		abort();
	if (found.has_uuid == NO && uuid)
		abort();
	xmlFree(name);
	xmlFree(uuid);
}

/* What libvirt goes by: names without their prefix. */
static void find_element(const char *xml, xmlDocPtr document)
{
	enum certainty has = has_element(xml, "hostdev"),
		       typed = has_element(xml, "interface\1type\1hostdev");
	xmlChar *there, *with;

	if (!document)
		return;
	there = find(document, "string(local-name((//*[local-name()='hostdev'])[1]))");
	with = find(document, "string(local-name((//*[local-name()='interface' and "
			      "@*[local-name()='type']='hostdev'])[1]))");
	if ((has == YES && !there) || (has == NO && there) || (typed == YES && !with) ||
	    (typed == NO && with))
		abort();
	xmlFree(there);
	xmlFree(with);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *xml = malloc(size + 1);
	xmlDocPtr document;

	memcpy(xml, data, size);
	xml[size] = 0;
	xmlSetGenericErrorFunc(NULL, ignore);
	/* as virXMLParse() does; libvirt gets a C string */
	document = xmlReadMemory(xml, strlen(xml), "domain.xml", NULL,
				 XML_PARSE_NONET | XML_PARSE_NOWARNING | XML_PARSE_NOERROR);
	compare(xml, document, NAME_CHILD, "string(./name[1])");
	compare(xml, document, NAME_ATTRIBUTE, "string(./@name)");
	compare(xml, document, PORTDEV_ATTRIBUTE, "string(./portdev[1]/@name)");
	/* a pool without a name has its source's */
	compare(xml, document, POOL_NAME,
		"string((./name[1][string()] | "
		"./source[1]/name[1][not(../../name[1][string()])])[1])");
	find_element(xml, document);
	is_plain_xml(xml, "web");
	is_plain_xml(xml, "<hostdev");
	xmlFreeDoc(document);
	free(xml);
	return 0;
}
