/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzzed function on the files that the arguments name, without a fuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	static uint8_t data[1 << 20];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");
		size_t size = file ? fread(data, 1, sizeof(data), file) : 0;

		if (!file)
			return 1;
		fclose(file);
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("%d\n", argc - 1);
	return 0;
}
