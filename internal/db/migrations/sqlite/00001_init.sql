-- +goose Up
CREATE TABLE setting (
    name  text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE api_key (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    role         text NOT NULL,
    hash         blob NOT NULL UNIQUE,
    created_at   timestamp NOT NULL,
    expires_at   timestamp,
    revoked_at   timestamp,
    last_used_at timestamp
);

CREATE TABLE audit_event (
    id          text PRIMARY KEY,
    at          timestamp NOT NULL,
    actor_kind  text NOT NULL,
    actor_id    text NOT NULL,
    actor_name  text NOT NULL,
    address     text NOT NULL,
    request_id  text NOT NULL,
    action      text NOT NULL,
    object_kind text NOT NULL,
    object_id   text NOT NULL,
    before      text,
    after       text
);
CREATE INDEX audit_event_object ON audit_event (object_kind, object_id, id);
CREATE INDEX audit_event_actor ON audit_event (actor_id, id);

-- One row per Idempotency-Key that led to a change. It is written in the
-- transaction of the change; the sealed response follows.
CREATE TABLE idempotency (
    actor_id     text NOT NULL,
    key          text NOT NULL,
    operation    text NOT NULL,
    request_hash blob NOT NULL,
    object_id    text NOT NULL,
    created_at   timestamp NOT NULL,
    status       integer NOT NULL DEFAULT 0,
    response     blob,
    PRIMARY KEY (actor_id, key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

CREATE TABLE profile (
    id         text PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    revision   integer NOT NULL,
    spec       text NOT NULL,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);

CREATE TABLE issuer (
    id              text PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    type            text NOT NULL,
    revision        integer NOT NULL,
    settings        text NOT NULL,
    sealed_settings blob,
    enabled         boolean NOT NULL,
    created_at      timestamp NOT NULL,
    updated_at      timestamp NOT NULL,
    checked_at      timestamp,
    check_error     text NOT NULL DEFAULT ''
);

-- The built-in CA of one local issuer. The chain runs from the signing
-- certificate to the root; the keys are sealed. root_key is null when an
-- operator brought the signing certificate.
CREATE TABLE local_ca (
    id          text PRIMARY KEY,
    issuer_id   text NOT NULL UNIQUE,
    chain       blob NOT NULL,
    signing_key blob NOT NULL,
    root_key    blob,
    created_at  timestamp NOT NULL,
    shard       integer NOT NULL,
    shard_used  integer NOT NULL
);

CREATE TABLE agent (
    id           text PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    revision     integer NOT NULL,
    public_key   blob NOT NULL UNIQUE,
    labels       text NOT NULL,
    version      text NOT NULL,
    os           text NOT NULL,
    token_id     text NOT NULL,
    created_at   timestamp NOT NULL,
    updated_at   timestamp NOT NULL,
    last_seen_at timestamp,
    revoked_at   timestamp
);

CREATE TABLE enrolment_token (
    id          text PRIMARY KEY,
    description text NOT NULL,
    hash        blob NOT NULL UNIQUE,
    labels      text NOT NULL,
    max_uses    integer NOT NULL,
    uses        integer NOT NULL,
    expires_at  timestamp,
    revoked_at  timestamp,
    created_at  timestamp NOT NULL
);

-- Token ids that agents have used, kept while a copy would still be in date.
CREATE TABLE agent_token_seen (
    agent_id   text NOT NULL,
    jti        text NOT NULL,
    expires_at timestamp NOT NULL,
    PRIMARY KEY (agent_id, jti)
);
CREATE INDEX agent_token_seen_expires ON agent_token_seen (expires_at);

CREATE TABLE certificate (
    id          text PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    revision    integer NOT NULL,
    common_name text NOT NULL,
    names       text NOT NULL,
    key_type    text NOT NULL,
    lifetime_seconds integer NOT NULL,
    profile_id  text NOT NULL REFERENCES profile (id),
    issuer_id   text NOT NULL REFERENCES issuer (id),
    owner       text NOT NULL,
    tags        text NOT NULL,
    renewal     text NOT NULL,
    created_at  timestamp NOT NULL,
    updated_at  timestamp NOT NULL,
    archived_at timestamp
);
CREATE INDEX certificate_issuer ON certificate (issuer_id, id);
CREATE INDEX certificate_profile ON certificate (profile_id, id);
CREATE INDEX certificate_owner ON certificate (owner, id);
CREATE INDEX certificate_archived ON certificate (id) WHERE archived_at IS NOT NULL;

-- One row per name of a certificate, and one for what it is called: what a
-- search by name reads.
CREATE TABLE certificate_name (
    certificate_id text NOT NULL REFERENCES certificate (id) ON DELETE CASCADE,
    name           text NOT NULL,
    PRIMARY KEY (name, certificate_id)
);
CREATE INDEX certificate_name_certificate ON certificate_name (certificate_id);

-- One row per tag of a certificate: what a filter by tag reads.
CREATE TABLE certificate_tag (
    certificate_id text NOT NULL REFERENCES certificate (id) ON DELETE CASCADE,
    key            text NOT NULL,
    value          text NOT NULL,
    PRIMARY KEY (key, value, certificate_id)
);
CREATE INDEX certificate_tag_certificate ON certificate_tag (certificate_id);

CREATE TABLE cert_order (
    id             text PRIMARY KEY,
    certificate_id text NOT NULL REFERENCES certificate (id),
    agent_id       text NOT NULL REFERENCES agent (id),
    reason         text NOT NULL,
    state          text NOT NULL,
    state_reason   text NOT NULL,
    attempts       integer NOT NULL,
    spec           text NOT NULL,
    csr            blob,
    progress       text,
    version_id     text,
    next_try_at    timestamp,
    created_at     timestamp NOT NULL,
    updated_at     timestamp NOT NULL,
    finished_at    timestamp
);
CREATE UNIQUE INDEX cert_order_open ON cert_order (certificate_id, agent_id)
    WHERE state IN ('pending', 'signing', 'issued');
CREATE INDEX cert_order_certificate ON cert_order (certificate_id, id);
CREATE INDEX cert_order_agent ON cert_order (agent_id, id);
CREATE INDEX cert_order_state ON cert_order (state, id);

-- What was issued. key_hash is the SHA-256 of the SubjectPublicKeyInfo;
-- expiring_at is from when on a version that was not replaced is a worry.
CREATE TABLE version (
    id             text PRIMARY KEY,
    certificate_id text NOT NULL REFERENCES certificate (id),
    order_id       text NOT NULL UNIQUE REFERENCES cert_order (id),
    agent_id       text NOT NULL REFERENCES agent (id),
    issuer_id      text NOT NULL REFERENCES issuer (id),
    serial         text NOT NULL,
    fingerprint    text NOT NULL UNIQUE,
    subject        text NOT NULL,
    key_type       text NOT NULL,
    key_hash       text NOT NULL,
    chain          blob NOT NULL,
    shard          integer NOT NULL,
    not_before     timestamp NOT NULL,
    not_after      timestamp NOT NULL,
    renew_at       timestamp NOT NULL,
    expiring_at    timestamp NOT NULL,
    due_at         timestamp,
    created_at     timestamp NOT NULL,
    activated_at   timestamp,
    superseded_at  timestamp,
    revoked_at     timestamp,
    revocation_reason integer
);
CREATE UNIQUE INDEX version_active ON version (certificate_id, agent_id)
    WHERE activated_at IS NOT NULL AND superseded_at IS NULL;
CREATE UNIQUE INDEX version_serial ON version (issuer_id, serial);
CREATE INDEX version_certificate ON version (certificate_id, id);
CREATE INDEX version_agent ON version (agent_id, id);
CREATE INDEX version_due ON version (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX version_not_after ON version (not_after, id) WHERE superseded_at IS NULL;
CREATE INDEX version_expiring ON version (expiring_at) WHERE superseded_at IS NULL;
CREATE INDEX version_revoked ON version (issuer_id, shard, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX version_revoked_active ON version (certificate_id) WHERE revoked_at IS NOT NULL AND superseded_at IS NULL;
CREATE INDEX version_key ON version (key_hash);

-- One line of a certificate's timeline.
CREATE TABLE event (
    id             text PRIMARY KEY,
    at             timestamp NOT NULL,
    certificate_id text NOT NULL REFERENCES certificate (id),
    order_id       text NOT NULL,
    deployment_id  text NOT NULL,
    kind           text NOT NULL,
    message        text NOT NULL,
    detail         text
);
CREATE INDEX event_certificate ON event (certificate_id, id);
CREATE INDEX event_order ON event (order_id, id) WHERE order_id <> '';

CREATE TABLE target (
    id              text PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    revision        integer NOT NULL,
    agent_id        text NOT NULL REFERENCES agent (id),
    kind            text NOT NULL,
    settings        text NOT NULL,
    sealed_settings blob,
    certificate_id  text REFERENCES certificate (id),
    created_at      timestamp NOT NULL,
    updated_at      timestamp NOT NULL
);
CREATE INDEX target_agent ON target (agent_id, id);
CREATE INDEX target_certificate ON target (certificate_id, id);

CREATE TABLE deployment (
    id          text PRIMARY KEY,
    target_id   text NOT NULL REFERENCES target (id) ON DELETE CASCADE,
    agent_id    text NOT NULL REFERENCES agent (id),
    certificate_id text NOT NULL REFERENCES certificate (id),
    version_id  text NOT NULL REFERENCES version (id),
    order_id    text NOT NULL,
    reason      text NOT NULL,
    state       text NOT NULL,
    state_reason text NOT NULL,
    attempts    integer NOT NULL,
    report      text,
    next_try_at timestamp,
    created_at  timestamp NOT NULL,
    updated_at  timestamp NOT NULL,
    finished_at timestamp
);
CREATE UNIQUE INDEX deployment_open ON deployment (target_id) WHERE state IN ('pending', 'running');
CREATE INDEX deployment_target ON deployment (target_id, id);
CREATE INDEX deployment_order ON deployment (order_id, id);
CREATE INDEX deployment_certificate ON deployment (certificate_id, id);
CREATE INDEX deployment_agent ON deployment (agent_id, id);
CREATE INDEX deployment_state ON deployment (state, id);

-- Work for one agent. A task is delivered under a lease and delivered again
-- when the lease runs out; it leaves the table when it is finished.
CREATE TABLE task (
    id           text PRIMARY KEY,
    agent_id     text NOT NULL REFERENCES agent (id),
    kind         text NOT NULL,
    subject_id   text NOT NULL,
    lane         text NOT NULL,
    deliveries   integer NOT NULL,
    leased_until timestamp,
    not_before   timestamp NOT NULL,
    created_at   timestamp NOT NULL,
    UNIQUE (kind, subject_id)
);
CREATE INDEX task_agent ON task (agent_id, not_before);

CREATE TABLE ocsp_responder (
    issuer_id   text PRIMARY KEY,
    certificate blob NOT NULL,
    sealed_key  blob NOT NULL,
    not_after   timestamp NOT NULL
);

-- Signed answers, one per serial and hash algorithm of the request's CertID.
CREATE TABLE ocsp_response (
    issuer_id   text NOT NULL,
    serial      text NOT NULL,
    hash        text NOT NULL,
    response    blob NOT NULL,
    this_update timestamp NOT NULL,
    next_update timestamp NOT NULL,
    PRIMARY KEY (issuer_id, serial, hash)
);
CREATE INDEX ocsp_response_next ON ocsp_response (next_update);

CREATE TABLE crl (
    issuer_id   text NOT NULL,
    shard       integer NOT NULL,
    number      integer NOT NULL,
    der         blob NOT NULL,
    this_update timestamp NOT NULL,
    next_update timestamp NOT NULL,
    refresh_at  timestamp NOT NULL,
    PRIMARY KEY (issuer_id, shard)
);
CREATE INDEX crl_refresh ON crl (refresh_at);
