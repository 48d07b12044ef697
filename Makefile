# certctl: everything that is built, run and checked from a checkout.
# "make" alone lists the targets. ARGS reaches what run, demo, bench and test start.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

# The release number: the tag of the checkout. Without a tag the programs tell the revision.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null)
MODULE  := github.com/certctl-io/certctl
LDFLAGS := -s -w $(if $(VERSION),-X $(MODULE)/internal/version.number=$(VERSION))
LINT    := go tool -modfile=tools/go.mod golangci-lint

# Static binaries, and no need for a C compiler.
export CGO_ENABLED := 0

.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what tests and demo need (as root with apt, else say the command)
	@scripts/setup.sh

build: ## Build certctl and certctl-agent into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

run: export CERTCTL_DATA_DIR ?= $(CURDIR)/certctl-data
run: build ## Run a server on SQLite in certctl-data/ (ARGS: flags of "certctl server")
	bin/certctl server $(ARGS)

demo: setup build ## Show it all with a real nginx (ARGS=--once ends by itself)
	go run ./test/demo $(ARGS)

test: setup ## Vet and run all tests (ARGS: flags of "go test")
	go vet ./...
	go test -timeout 20m $(ARGS) ./...

race: setup ## Run all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 40m $(ARGS) ./...

bench: setup build ## Measure orders per second and the time to live (ARGS: flags of test/bench)
	go run ./test/bench $(ARGS)

lint: ## Check the code as .golangci.yml says (the first run builds the linter, for minutes)
	$(LINT) run ./...

fmt: ## Format the code
	$(LINT) fmt ./...

docs: ## Write the pages in docs/ that are made from the code
	go test ./internal/config -run TestTheSettingsPageIsUpToDate -update
	go test ./internal/cli -update
	go test ./test/e2e -run TestTheTourOfErrorsIsTrue -update

clean: ## Remove bin/
	rm -rf bin

.PHONY: help setup build run demo test race bench lint fmt docs clean

test-chart: ## Lint, render and check the Helm chart (ARGS: flags of "go test"; -update writes what is made from the chart)
	cd test/chart && go vet ./... && go test -timeout 10m ./... $(ARGS)

images: ## Build the images with buildah (settings: deploy/images/build.sh)
	LDFLAGS='$(LDFLAGS)' $(if $(VERSION),TAG='$(patsubst v%,%,$(VERSION))') deploy/images/build.sh

package: ## Package the Helm chart into bin/
	mkdir -p bin
	cd test/chart && go tool helm package ../../deploy/helm/certctl --destination ../../bin \
		$(if $(VERSION),--version '$(patsubst v%,%,$(VERSION))' --app-version '$(patsubst v%,%,$(VERSION))')

.PHONY: test-chart images package

test-kube: ## Test the Helm chart on a real Kubernetes (root on Debian; the first run takes long; ARGS: flags of the test binary)
	@test/kube/run.sh $(ARGS)

.PHONY: test-kube
