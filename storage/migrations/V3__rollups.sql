-- What was due and what ran: packed rows per shard slot and window, never one row per check.

-- Last durable batch per agent, incarnation and lane; moves in the transaction of its effect.
CREATE TABLE lane_watermarks (
    agent       integer NOT NULL,
    incarnation integer NOT NULL,
    lane        text   NOT NULL,
    seq         bigint NOT NULL,
    PRIMARY KEY (agent, incarnation, lane)
) WITH (fillfactor = 50);

-- `packed` holds the columns per check (see `rollup/pack.rs`). It lies out of line and is already
-- compressed, so that shard totals are read without touching it. An owner that restarts within a
-- window leaves two rows with different beginnings.
CREATE TABLE rollups (
    group_id      integer   NOT NULL,
    shard         integer   NOT NULL,
    window_start  bigint   NOT NULL,
    slot          smallint NOT NULL,
    epoch         integer   NOT NULL,
    covered_from  bigint   NOT NULL,
    covered_until bigint   NOT NULL,
    agent         integer   NOT NULL,
    checks        integer  NOT NULL,
    due           bigint   NOT NULL,
    ran           bigint   NOT NULL,
    ok            bigint   NOT NULL,
    lateness_ms   bigint   NOT NULL,
    packed        bytea    NOT NULL,
    PRIMARY KEY (shard, group_id, window_start, slot, epoch, covered_from)
);
ALTER TABLE rollups ALTER COLUMN packed SET STORAGE EXTERNAL;

-- The union of the covered parts, joined where they touch: an uninterrupted year is one row, so
-- that SLA figures do not read rollups. Overlaps and late repairs may leave rows that touch; the
-- reader unites them.
CREATE TABLE coverage (
    group_id      integer   NOT NULL,
    shard         integer   NOT NULL,
    slot          smallint NOT NULL,
    covered_from  bigint   NOT NULL,
    covered_until bigint   NOT NULL,
    PRIMARY KEY (shard, group_id, slot, covered_from)
) WITH (fillfactor = 70);

-- How far each shard has been watched, by any slot.
CREATE TABLE shard_observed (
    group_id integer NOT NULL,
    shard    integer NOT NULL,
    until    bigint  NOT NULL,
    PRIMARY KEY (group_id, shard)
) WITH (fillfactor = 50);
