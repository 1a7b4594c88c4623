# SPDX-License-Identifier: LGPL-2.1-or-later
# Set-up, checks and installation. Debian 12 and later; what is missing is installed with apt and, for development tools, pip.
SHELL = /bin/sh
PYTHON = /usr/bin/python3
PREFIX = /usr/local
DESTDIR =
RELEASE := $(shell . /etc/os-release && echo $$VERSION_CODENAME)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# what runs here as root leaves no files of root's in a user's clone
AS_ROOT = $(SUDO) env PYTHONDONTWRITEBYTECODE=1

# what libvirt-trace needs to run; its BPF program is compiled by BCC, which needs <linux/...> but no kernel headers;
# before Linux 6.13 Capstone tells where functions return
RUN_PACKAGES = python3-bpfcc python3-capstone python3-pyelftools python3-rich python3-zstandard linux-libc-dev
# to build the enforcer's library, which needs nothing but libc
BUILD_PACKAGES = gcc libc6-dev
DEMO_PACKAGES = libvirt-clients python3-libvirt
# libvirtd's drivers are only recommended by its package, and since Debian 13 each has one of its own; virtlogd, D-Bus and the libvirtd
# service are not needed
DRIVER_PACKAGES := libvirt-daemon-driver-qemu $(if $(filter bookworm,$(RELEASE)),,$(addprefix libvirt-daemon-driver-,network nwfilter secret storage))
TEST_PACKAGES = bpftrace btrfs-progs fish zsh $(BUILD_PACKAGES) gcc-aarch64-linux-gnu libc6-dev-arm64-cross libvirt-daemon $(DRIVER_PACKAGES) \
	libsasl2-modules libsasl2-modules-db sasl2-bin \
	chromium-headless-shell dbus-bin dbus-daemon jq libvirt-dev libvirt-l10n libxml2-dev libvirt-dbus locales ltrace man-db openssh-client openssl patchelf pkg-config polkitd python3-eventlet python3-gevent \
	python3-greenlet python3-hypothesis python3-jinja2 python3-jsonschema python3-lxml python3-prometheus-client python3-pytest python3-pytest-timeout python3-pytest-xdist python3-audit python3-venv \
	libcoro-perl libsys-virt-perl qemu-system-x86 qemu-user qemu-utils ruby ruby-libvirt shellcheck strace sudo systemd util-linux virtinst zstd
# of these the tests of README's examples
README_PACKAGES = $(BUILD_PACKAGES) libvirt-daemon $(DRIVER_PACKAGES) openssl python3-hypothesis python3-pytest python3-pytest-timeout python3-pytest-xdist qemu-system-x86
# Debian 12's; the compiler's fuzzer is in a package with its version in the name
FUZZ_PACKAGES = clang libclang-rt-14-dev libxml2-dev
FUZZER = atheris==3.0.0
FUZZ_SECONDS = 600
# programs that tests run: their packages would start them as services, so these are only unpacked;
# since Debian 13 promtool has a package of its own, and sshd logs in with another library
UNPACKED := libestr0 libfastjson4 libwrap0 openssh-server prometheus $(if $(filter bookworm,$(RELEASE)),,libwtmpdb0 promtool) rsyslog rsyslog-gnutls
SOAK = --minutes 30 --times 100
# parts of it: BENCH=day is a question to a day of 10 million calls, BENCH="--quick day" to few
BENCH =
# virtme-ng makes an initramfs of a static busybox and finds its serial ports through udev
KERNEL_PACKAGES = busybox-static kmod qemu-system-x86 udev
ROOT_PACKAGES = debootstrap
STACKS_PACKAGES = golang-go
STACKS_TESTS = tests/kernel/test_lives.py tests/stacks tests/kernel/test_stacks.py
DEB_PACKAGES = debhelper dh-python fakeroot lintian python3-all $(BUILD_PACKAGES) python3-rich
MACHINE_PACKAGES = e2fsprogs openssh-client qemu-system-x86 $(ROOT_PACKAGES)
AARCH64_PACKAGES = cpio qemu-system-arm $(ROOT_PACKAGES)
CACHE = $(or $(XDG_CACHE_HOME),/var/cache)/libvirt-trace-ci
OTHER := $(if $(filter bookworm,$(RELEASE)),trixie,bookworm)
OTHER_ROOT = $(CACHE)/$(OTHER)
# libvirt's modular daemons, which are built from source
MODULAR = $(CACHE)/modular
# releases that a newcomer may have
ROOTS = bookworm trixie
OTHER_TESTS = tests/preload tests/kernel tests/system
LINTERS = ruff==0.17.6 mypy==2.4.1
VIRTME = virtme-ng==1.42
# OpenTelemetry's own definition of what it takes
OTLP = opentelemetry-proto==1.45.2
# the engines of ClickHouse and DuckDB, and the schema of OCSF; chdb needs pandas for what is not used here
STORES = --no-deps chdb==4.4.0 chdb-core==26.9.0 duckdb==2.0.1 ocsf-json-schema==1.2.0

SHELL_SCRIPTS = .ci/run $(wildcard tests/*.sh tests/*/*.sh)
PYTEST = $(PYTHON) -m pytest
# tests of units and of the library run side by side in so many processes, those that look at the
# whole host one after the other in any case; 0: all do
JOBS = 2
PYTEST_ARGS =
# with RECORD=yes a target's result goes to tests/MATRIX.md
RECORDED = $(if $(PYTEST_ARGS),,tests/record.sh $(@:test=check))
LIBRARY = $(PREFIX)/lib/libvirt-trace
ENFORCER = libvirt-trace-enforcer.so
# for another machine: make enforcer MACHINE=aarch64 CC=aarch64-linux-gnu-gcc BUILD=FOLDER
MACHINE := $(patsubst x86_64,x86-64,$(shell uname -m))
BUILD = enforcer/build
STRIP = -s
GENERATED = $(addprefix $(BUILD)/,stubs.S table.h contract.h)
GENERATED_FROM = $(wildcard enforcer/library/*.py) enforcer/policy/sources.py $(addprefix enforcer/compiled/,layout.py files.py) probes/internals/gobject.py probes/host/looking/maps.py \
	$(addprefix probes/kernel/,abi.py contract.py records.py) $(wildcard probes/kernel/machines/*.py) probes/internals/gobject.py $(addprefix probes/api/,api.json load.py table.py undescribed.py)
ENFORCER_SOURCES = $(wildcard enforcer/library/*.c enforcer/library/*/*.c) enforcer/library/machines/enter-$(MACHINE).S $(BUILD)/stubs.S
ENFORCER_FLAGS = $(CPPFLAGS) -std=gnu11 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror -I$(BUILD) -Ienforcer/library $(CFLAGS)
ENFORCER_LINK = -shared -Wl,--version-script=enforcer/library/exports.map -Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,--hash-style=both $(LDFLAGS)
MANUAL = $(PREFIX)/share/man/man8/libvirt-trace.8
UNITS = $(PREFIX)/lib/systemd/system
CATALOG = $(PREFIX)/lib/systemd/catalog/libvirt-trace.catalog
# where shells look for what completes a command's line: bash, zsh, fish
COMPLETIONS = bash-completion/completions/libvirt-trace zsh/$(ZSH_FOLDER)/_libvirt-trace \
	fish/vendor_completions.d/libvirt-trace.fish
ZSH_FOLDER = site-functions

# $(call need,PACKAGES): installs those that are missing; when there are none, apt is not asked
define need
	@missing=$$(for package in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		if [ -n "$(SUDO)" ] && ! command -v $(SUDO) >/dev/null; then \
			echo "missing:" $$missing; echo "there is no sudo: run make as root, or install these packages first"; exit 1; \
		fi; \
		echo "installing" $$missing; \
		log=$$(mktemp); \
		{ $(SUDO) apt-get -q -o Acquire::Retries=5 update && \
			$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
			install --no-install-recommends $$missing; } </dev/null >$$log 2>&1 || { cat $$log; rm $$log; exit 1; }; \
		rm $$log; \
	fi
endef

# $(call tools,PACKAGES): pinned tools from PyPI, kept out of the system in .venv
define tools
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 $(1)
	@touch $@
endef

# a root for 32-bit processors, with a compiler
define make_i386
	@$(SUDO) env ARCH=i386 tests/roots/make.sh bookworm .cache/i386 libvirt-clients gcc libc6-dev libvirt-dev
endef

.PHONY: check-aarch64 check-integrations check-deb deb fuzz help deps deps-run deps-demo demo check test lint test-readme test-unit bench bench-quick growth enforcer build-deps deps-roots check-kernels check-libvirts check-modular check-other check-machine check-roots check-stacks install uninstall clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

deps: .cache/programs/complete ## install what running, the demo and the tests need
	$(call need,$(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES))

.cache/programs/complete: Makefile
	@echo unpacking $(UNPACKED); rm -rf $(@D); mkdir -p $(@D)
	@$(SUDO) apt-get -q -o Acquire::Retries=5 update >/dev/null
	@cd $(@D) && apt-get -q -o Acquire::Retries=5 download $(UNPACKED) >/dev/null 2>&1 && \
		for file in *.deb; do dpkg-deb -x "$$file" . || exit 1; done && rm -- *.deb
	@touch $@

deps-run:
	$(call need,$(RUN_PACKAGES))

deps-demo:
	$(call need,$(RUN_PACKAGES) $(DEMO_PACKAGES))

demo: deps-demo build-deps enforcer ## trace a few real libvirt calls of virsh and Python on libvirt's test driver
	@echo 'virsh lists, suspends and resumes a domain and asks for one that does not exist;'
	@echo 'Python changes its memory and shuts it down; a policy denies virsh to destroy it. It exists in memory only. All calls:'
	@$(SUDO) $(PYTHON) -B -E -s tracer.py -- sh -eu tests/demo.sh
	@echo 'Next: sudo ./tracer.py shows what all programs here do with libvirt.'

enforcer: $(BUILD)/$(ENFORCER) ## build the library that denies calls

$(GENERATED) &: $(GENERATED_FROM)
	@$(PYTHON) -m enforcer.library.generate $(BUILD) $(MACHINE)
	@touch $(GENERATED)

$(BUILD)/$(ENFORCER): $(ENFORCER_SOURCES) $(wildcard enforcer/library/*.h enforcer/library/*/*.h) enforcer/library/exports.map $(GENERATED)
	@$(CC) $(ENFORCER_FLAGS) -o $@ $(ENFORCER_SOURCES) $(ENFORCER_LINK) $(STRIP)

build-deps:
	$(call need,$(BUILD_PACKAGES))

check: lint test ## lint and every test, none skipped (PYTEST_ARGS selects)

test: deps enforcer .venv/otlp
	@$(RECORDED) $(AS_ROOT) LIBVIRT_TRACE_REQUIRE=unit,preload,kernel,system $(PYTEST) -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

lint: deps .venv/linters ## formatting, types, shell scripts, the man page, licence lines
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --python-executable $(PYTHON) --no-error-summary .
	@find enforcer/library probes tests -name '*.[chS]' | while read -r file; do \
		expand "$$file" | awk -v file="$$file" 'length > 100 { print file ":" NR ": more than 100 columns" }'; done | { ! grep .; }
	@shellcheck $(SHELL_SCRIPTS)
	@man --warnings=w -l tracer.8 2>&1 >/dev/null | { ! grep .; }
	@! grep -rL SPDX-License-Identifier --include='*.py' --include='*.[ch]' --include='*.sh' --exclude-dir='.[!.]*' . | grep .

.venv/linters: Makefile
	$(call tools,$(LINTERS))

.venv/fuzzer: Makefile
	$(call tools,$(FUZZER))

.venv/virtme: Makefile
	$(call tools,$(VIRTME))

.venv/otlp: Makefile
	$(call tools,$(OTLP))

.venv/stores: Makefile
	$(call tools,$(STORES))

check-integrations: deps .venv/stores ## a million events of 50 hosts in ClickHouse's engine and DuckDB; rsyslog, dashboards, OCSF's schema
	$(call need,python3-yaml)
	@$(RECORDED) env PYTHONPATH="$$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')" LIBVIRT_TRACE_REQUIRE=integrations \
		$(PYTEST) -s tests/integrations $(PYTEST_ARGS)

test-unit: deps .venv/otlp ## the tests in plain Python
	@$(PYTEST) -n 2 --dist loadfile tests/unit $(PYTEST_ARGS)

test-readme: deps-demo enforcer ## the examples of the README, with no more packages than these need
	$(call need,$(README_PACKAGES))
	@$(AS_ROOT) LIBVIRT_TRACE_REQUIRE=kernel,system $(PYTEST) tests/kernel/test_readme.py tests/system/test_readme.py $(PYTEST_ARGS)

bench: deps enforcer ## the cost of a call, beside other tools, as one table
	@$(AS_ROOT) $(PYTHON) -m tests.bench $(BENCH)

bench-quick: deps enforcer ## the same table from one short round each: whether everything works
	@$(AS_ROOT) $(PYTHON) -m tests.bench --quick

growth: deps enforcer ## what grows with a host's processes, libraries, domains, threads and connections: the table of PLATFORMS.md
	@$(AS_ROOT) $(PYTHON) -m tests.bench --into PLATFORMS.md scale growth

soak: deps ## half an hour (SOAK) of three exporters at 100 times their rate: what the record costs, and that nothing is missing
	@$(AS_ROOT) $(PYTHON) -m tests.bench.soak $(SOAK)

fuzz: deps enforcer .venv/fuzzer ## ten minutes each (FUZZ_SECONDS): the readers of policies, XML and records, and the enforcer on random programs
	$(call need,$(FUZZ_PACKAGES))
	@mkdir -p .cache; for what in xml policy; do \
		tests/fuzz/build.sh $$what .cache/fuzz-$$what clang -fsanitize=fuzzer,address,undefined && \
		mkdir -p .cache/fuzzed-$$what && \
		.cache/fuzz-$$what -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 .cache/fuzzed-$$what tests/fuzz/corpus/$$what || exit 1; done
	@mkdir -p .cache/fuzzed-record; PYTHONPATH="$$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
		$(PYTHON) -B -m tests.fuzz.record -max_total_time=$(FUZZ_SECONDS) -timeout=60 -print_final_stats=1 .cache/fuzzed-record tests/fuzz/corpus/record
	@$(AS_ROOT) $(PYTHON) -m tests.model --seconds $(FUZZ_SECONDS)

check-kernels: deps .venv/virtme ## kernel tests on Debian's 6.1 and 6.12 kernels, emulated (KERNELS, PYTEST_ARGS select)
	$(call need,$(KERNEL_PACKAGES))
	@$(RECORDED) tests/kernels/run.sh $(PYTEST_ARGS)

check-libvirts: deps-roots ## trace virsh, Python and libvirtd of libvirt 7.0, 11.3 and the newest (Debian 11, 13, sid), and a 32-bit virsh
	@for suite in bullseye trixie sid; do \
		$(SUDO) tests/roots/make.sh $$suite .cache/$$suite libvirt-clients libvirt-daemon python3-libvirt || exit 1; done
	$(make_i386)
	@$(RECORDED) $(AS_ROOT) LIBVIRT_TRACE_REQUIRE=libvirts $(PYTEST) tests/libvirts $(PYTEST_ARGS)

# each case takes minutes, on a busy machine an hour; they look at their own processes only, and so run side by side
check-stacks: deps-roots ## 10,000 rounds of everything with several stacks, Go's and 32-bit programs' too, and 10,000 short programs
	$(call need,$(STACKS_PACKAGES))
	$(make_i386)
	@$(RECORDED) $(AS_ROOT) LIBVIRT_TRACE_ROUNDS=10007 LIBVIRT_TRACE_REQUIRE=kernel,stacks $(PYTEST) -n $(JOBS) --timeout 14400 $(STACKS_TESTS) $(PYTEST_ARGS)

deps-roots: deps
	$(call need,$(ROOT_PACKAGES))

check-other: deps-roots ## the tests of preload, kernel and system in a root of Debian 13 (on another release: of Debian 12)
	@$(RECORDED) $(SUDO) env CLEAN_ROOT="$(OTHER_ROOT)" SUITE=$(OTHER) tests/clean_root.sh test JOBS=$(JOBS) PYTEST_ARGS="$(OTHER_TESTS) $(PYTEST_ARGS)"

check-machine: deps ## libvirtd under the enforcer and the record as services in an emulated Debian 13 with its own kernel, systemd and AppArmor
	$(call need,$(MACHINE_PACKAGES))
	@$(SUDO) tests/machine/make.sh "$(CACHE)/machine" $(RUN_PACKAGES) $(BUILD_PACKAGES)
	@$(RECORDED) $(AS_ROOT) LIBVIRT_TRACE_MACHINE="$(CACHE)/machine" LIBVIRT_TRACE_REQUIRE=machine $(PYTEST) --timeout 3600 tests/machine $(PYTEST_ARGS)

check-aarch64: deps ## tracing in an emulated aarch64 machine with Debian's kernels (KERNELS, PYTEST_ARGS select)
	$(call need,$(AARCH64_PACKAGES))
	@$(SUDO) tests/aarch64/make.sh "$(CACHE)/aarch64" $(RUN_PACKAGES) $(DEMO_PACKAGES) $(BUILD_PACKAGES) libvirt-dev pkg-config \
		python3-hypothesis python3-pytest python3-pytest-timeout python3-pytest-xdist
	@$(RECORDED) tests/aarch64/run.sh "$(CACHE)/aarch64" $(PYTEST_ARGS)

check-roots: deps-roots ## as a newcomer in fresh roots of Debian 12 and 13 (ROOTS): demo, install, README's examples, uninstall
	@$(RECORDED) sh -euc 'for suite in $(ROOTS); do \
		root="$$PWD/.cache/fresh-$$suite"; \
		echo "Debian $$suite, a fresh root:"; \
		$(SUDO) rm -rf "$$root"; \
		$(SUDO) env CLEAN_ROOT="$$root" SUITE=$$suite tests/clean_root.sh demo install test-readme uninstall PYTEST_ARGS="$(PYTEST_ARGS)"; \
		$(SUDO) rm -rf "$$root" "$$root.lock" "$$root.log"; done'

check-modular: deps-roots enforcer ## the enforcer and the tracer on virtqemud and its like, built from Debian's source in 15 minutes
	@$(SUDO) tests/modular/build.sh "$(MODULAR)"
	@$(RECORDED) $(AS_ROOT) LIBVIRT_TRACE_MODULAR="$(MODULAR)" LIBVIRT_TRACE_REQUIRE=modular $(PYTEST) tests/modular $(PYTEST_ARGS)

install: $(if $(DESTDIR),,deps-run build-deps) enforcer ## copy to PREFIX (/usr/local)
	@umask 022; for file in $$(find tracer.py probes log enforcer -type f ! -path "*/__pycache__/*" ! -path "enforcer/build/*" ! -path "enforcer/library/*"); do \
		install -D -m 644 "$$file" "$(DESTDIR)$(LIBRARY)/$$file"; done; \
	install -m 755 $(BUILD)/$(ENFORCER) "$(DESTDIR)$(LIBRARY)/enforcer/$(ENFORCER)"; \
	install -d "$(DESTDIR)$(PREFIX)/bin"; \
	printf '#!/bin/sh\nexec %s -E -s %s/tracer.py "$$@"\n' $(PYTHON) $(LIBRARY) >"$(DESTDIR)$(PREFIX)/bin/libvirt-trace"; \
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/libvirt-trace"; \
	install -D -m 644 tracer.8 "$(DESTDIR)$(MANUAL)"; \
	install -D -m 644 libvirt-trace.catalog "$(DESTDIR)$(CATALOG)"; \
	install -d "$(DESTDIR)$(UNITS)"; \
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' libvirt-trace.service >"$(DESTDIR)$(UNITS)/libvirt-trace.service"; \
	for file in $(COMPLETIONS); do to="$(DESTDIR)$(PREFIX)/share/$$file"; install -d "$$(dirname "$$to")"; \
		$(PYTHON) -B -m enforcer.completions "$${file%%[-/]*}" >"$$to" || exit 1; done

deb: ## build the Debian package in .cache/deb; no error or warning of lintian
	$(call need,$(DEB_PACKAGES))
	@rm -rf .cache/deb; mkdir -p .cache/deb/source; \
	git ls-files -co --exclude-standard -z | tar -c --null -T - | tar -x -C .cache/deb/source
	@cd .cache/deb/source && dpkg-buildpackage -us -uc -b >../build.log 2>&1 || { tail -n 30 ../build.log; exit 1; }
	@lintian --fail-on error,warning --info .cache/deb/*.changes
	@rm -r .cache/deb/source; ls .cache/deb/*.deb

check-deb: deb deps-roots ## install, use, upgrade and purge the package in roots of Debian 12 and 13
	@$(RECORDED) $(SUDO) tests/deb.sh .cache/deb/libvirt-trace_*.deb bookworm trixie

uninstall: ## remove what install copied
	@used=$$(grep -ls "=$(LIBRARY)/" "$(DESTDIR)"/etc/systemd/system/*.service.d/libvirt-trace.conf); \
	for file in $$used; do unit=$$(basename "$$(dirname "$$file")" .d); \
		echo "$$unit would run unguarded: first libvirt-trace enforce --service $$unit --remove, and restart it"; done; \
	test -z "$$used"
	@test ! -L "$(DESTDIR)/etc/systemd/system/multi-user.target.wants/libvirt-trace.service" || \
		{ echo "the record is being written: first systemctl disable --now libvirt-trace"; exit 1; }
	rm -rf "$(DESTDIR)$(LIBRARY)" "$(DESTDIR)$(PREFIX)/bin/libvirt-trace" "$(DESTDIR)$(MANUAL)" "$(DESTDIR)$(UNITS)/libvirt-trace.service" "$(DESTDIR)$(CATALOG)" \
		"$(DESTDIR)/var/cache/libvirt-trace" $(COMPLETIONS:%="$(DESTDIR)$(PREFIX)/share/%")
	@for kept in "$(DESTDIR)/etc/libvirt-trace"; do test ! -e "$$kept" || echo "kept: policies in $$kept"; done
	@for kept in "$(DESTDIR)/var/log/libvirt-trace"; do test ! -e "$$kept" || echo "kept: the record in $$kept"; done
	@echo "kept: packages that were installed with apt"

clean: ## remove what the targets above made here: tools, downloads, caches
	rm -rf enforcer/build .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
