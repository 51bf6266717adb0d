-- What was decided: written by the projector alone, one transaction per batch of facts.

-- A consumer's cursor over facts; its row is locked by whoever writes that consumer's tables.
CREATE TABLE fact_cursors (
    consumer text   PRIMARY KEY,
    seq      bigint NOT NULL
);
INSERT INTO fact_cursors VALUES ('projector', 0);

-- Append-only. `seq` is the fact's number; `decided_at` the log entry's time, `at` the instant from
-- which the state holds.
CREATE TABLE transitions (
    seq        bigint   NOT NULL,
    shard      integer  NOT NULL,
    decided_at bigint   NOT NULL,
    at         bigint   NOT NULL,
    endpoint   bigint   NOT NULL,
    check_id   bigint   NOT NULL,
    site       bigint   NOT NULL,
    from_state smallint NOT NULL,
    to_state   smallint NOT NULL,
    reason     smallint,
    incident   bigint,
    PRIMARY KEY (seq, shard)
);
-- `at` never runs backwards within an endpoint, so this is also the order of `seq`, and it can be
-- entered at any instant.
CREATE INDEX transitions_timeline ON transitions (endpoint, at, seq);

-- The last transition of every endpoint that ever had one. A site's state is not stored: it is the
-- worst of these, which the second index finds in a few probes however large the site is, and what
-- is not stored cannot drift. Rows of deleted endpoints may remain; readers join the catalogue.
CREATE TABLE endpoint_state (
    endpoint bigint   NOT NULL,
    shard    integer  NOT NULL,
    site     bigint   NOT NULL,
    state    smallint NOT NULL,
    since    bigint   NOT NULL,
    reason   smallint,
    incident bigint,
    seq      bigint   NOT NULL,
    PRIMARY KEY (endpoint, shard)
) WITH (fillfactor = 70);
-- Few in calm: lists and counts of what is not up start here, whatever the catalogue's size.
CREATE INDEX endpoint_state_not_up ON endpoint_state (state, endpoint) WHERE state <> 1;
CREATE INDEX endpoint_state_site ON endpoint_state (site, state, since) WHERE state <> 1;

CREATE TABLE incidents (
    id         bigint   NOT NULL,
    shard      integer  NOT NULL,
    endpoint   bigint   NOT NULL,
    check_id   bigint   NOT NULL,
    site       bigint   NOT NULL,
    state      smallint NOT NULL,
    started_at bigint   NOT NULL,
    decided_at bigint,
    ended_at   bigint,
    verdict    smallint,
    reason     smallint NOT NULL,
    told_in    bigint,
    trace      bytea,
    seq        bigint   NOT NULL,
    PRIMARY KEY (id, shard)
) WITH (fillfactor = 70);
CREATE INDEX incidents_open ON incidents (id) WHERE ended_at IS NULL;
CREATE INDEX incidents_endpoint ON incidents (endpoint, id);
CREATE INDEX incidents_site ON incidents (site, id);

-- A closed incident is what a customer was told: nothing may change it. An open one never moves
-- its beginning.
CREATE FUNCTION refuse_incident_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'incident % is immutable: ended_at %, started_at % to %',
        OLD.id, OLD.ended_at, OLD.started_at, NEW.started_at
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER incidents_immutable BEFORE UPDATE ON incidents FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL OR NEW.started_at <> OLD.started_at)
    EXECUTE FUNCTION refuse_incident_change();

-- Votes and changes of mind, complete, so that a verdict can be argued years later.
CREATE TABLE testimony (
    seq            bigint   NOT NULL,
    shard          integer  NOT NULL,
    at             bigint   NOT NULL,
    incident       bigint   NOT NULL,
    endpoint       bigint   NOT NULL,
    check_id       bigint   NOT NULL,
    site           bigint   NOT NULL,
    agent          integer   NOT NULL,
    region         text     NOT NULL,
    network        text     NOT NULL,
    counted        smallint NOT NULL,
    healthy        boolean  NOT NULL,
    -- Under which order it voted; null when it was not asked by the order that counts it.
    order_id       bigint,
    -- As voter under this order, or as owner of this slot under this epoch.
    voter_order    bigint,
    owner_group    integer,
    owner_shard    integer,
    owner_slot     smallint,
    owner_epoch    integer,
    trace          bytea,
    -- The probe, and the immediate second try where one was made. `us` holds dns, connect, tls,
    -- first byte and total, in microseconds.
    probe_at       bigint   NOT NULL,
    probe_late_ms  bigint   NOT NULL,
    probe_reason   smallint,
    probe_us       integer[] NOT NULL,
    probe_status   integer  NOT NULL,
    probe_remote   inet,
    probe_expires  bigint,
    probe_detail   text     NOT NULL,
    retry_at       bigint,
    retry_late_ms  bigint,
    retry_reason   smallint,
    retry_us       integer[],
    retry_status   integer,
    retry_remote   inet,
    retry_expires  bigint,
    retry_detail   text,
    PRIMARY KEY (seq, shard)
);
CREATE INDEX testimony_incident ON testimony (incident, seq);

-- Incidents with one cause, told as one.
CREATE TABLE notification_groups (
    id        bigint  PRIMARY KEY,
    cause     text    NOT NULL,
    opened_at bigint  NOT NULL,
    open      integer NOT NULL,
    total     integer NOT NULL,
    closed_at bigint,
    seq       bigint  NOT NULL
) WITH (fillfactor = 70);

-- What happened to agents and assignments.
CREATE TABLE audit_log (
    seq      bigint PRIMARY KEY,
    at       bigint NOT NULL,
    kind     text   NOT NULL,
    change   text   NOT NULL,
    agent    integer,
    group_id integer,
    shard    integer,
    slot     smallint,
    epoch    integer
);
CREATE INDEX audit_log_slot ON audit_log (group_id, shard, slot, seq);
CREATE INDEX audit_log_agent ON audit_log (agent, seq);
