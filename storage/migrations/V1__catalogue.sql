-- The catalogue: what is watched. The truth that shard blobs are built from.
--
-- Instants are bigint milliseconds of Unix time, as everywhere in Picket. `shard` is the hash of the
-- endpoint id modulo the cluster's shard count: it is the distribution key of every large table and
-- part of every primary key, so that the same schema can be spread over several machines. A shard
-- never changes; the placement group of an endpoint may, so `group_id` is kept only where the row
-- speaks of the group (catalogue, rollups, assignments), never in an endpoint's history.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SEQUENCE site_ids;
CREATE SEQUENCE endpoint_ids;
CREATE SEQUENCE check_ids;

-- One row. Every catalogue change takes this row first: writers are serial, so versions become
-- visible in their own order and `changes since` misses none. `shards` is pinned by the first
-- import, because every stored shard depends on it.
CREATE TABLE catalogue_head (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint  NOT NULL DEFAULT 0,
    shards  integer
);
INSERT INTO catalogue_head DEFAULT VALUES;

CREATE TABLE sites (
    id        bigint  PRIMARY KEY DEFAULT nextval('site_ids'),
    name      text    NOT NULL UNIQUE,
    created   bigint  NOT NULL,
    endpoints integer NOT NULL DEFAULT 0,
    paused    integer NOT NULL DEFAULT 0
);

-- `watched_from` is when it was made or last resumed: until its shard was observed after that, its
-- state is unknown.
CREATE TABLE endpoints (
    id           bigint  NOT NULL,
    shard        integer NOT NULL,
    group_id     integer NOT NULL,
    site         bigint  NOT NULL,
    url          text    NOT NULL,
    labels       text[]  NOT NULL DEFAULT '{}',
    paused       boolean NOT NULL DEFAULT false,
    created      bigint  NOT NULL,
    watched_from bigint  NOT NULL,
    PRIMARY KEY (id, shard)
);
-- The one constraint that spans shards: an address exists once in a site. On a distributed
-- Postgres it becomes a table of its own, distributed by site.
CREATE UNIQUE INDEX endpoints_address ON endpoints (site, url);
-- Enough endpoints of a site to speak for it where all of a large one would take too long.
CREATE FUNCTION first_endpoints(of_site bigint) RETURNS SETOF endpoints LANGUAGE sql STABLE AS $$
    SELECT * FROM endpoints WHERE site = of_site ORDER BY url LIMIT 100
$$;
CREATE INDEX endpoints_url ON endpoints USING gin (url gin_trgm_ops);
CREATE INDEX endpoints_labels ON endpoints USING gin (labels);
CREATE INDEX endpoints_watched_from ON endpoints (watched_from);
CREATE INDEX endpoints_paused ON endpoints (id) WHERE paused;

-- `spec` is the kind's own document; its form is pinned by a golden test.
CREATE TABLE checks (
    id         bigint   NOT NULL,
    shard      integer  NOT NULL,
    group_id   integer  NOT NULL,
    endpoint   bigint   NOT NULL,
    site       bigint   NOT NULL,
    kind       text     NOT NULL,
    cadence_s  integer  NOT NULL,
    timeout_ms integer  NOT NULL,
    paused     boolean  NOT NULL DEFAULT false,
    spec       jsonb    NOT NULL,
    PRIMARY KEY (id, shard)
);
CREATE UNIQUE INDEX checks_endpoint ON checks (endpoint, kind, shard);
CREATE INDEX checks_shard ON checks (shard, group_id);

-- The change feed: one row per shard, raised in the transaction of the change. Its counts spare
-- everybody the counting of endpoints.
CREATE TABLE shard_versions (
    group_id  integer NOT NULL,
    shard     integer NOT NULL,
    version   bigint  NOT NULL,
    endpoints integer NOT NULL,
    PRIMARY KEY (group_id, shard)
) WITH (fillfactor = 70);
CREATE INDEX shard_versions_version ON shard_versions (version);
