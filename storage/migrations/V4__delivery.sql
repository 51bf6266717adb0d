-- Every attempt to tell somebody, with its outcome.
CREATE TABLE delivery_log (
    id                 bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                 bigint  NOT NULL,
    webhook            integer  NOT NULL,
    notification_group bigint  NOT NULL,
    fact_seq           bigint  NOT NULL,
    attempt            integer NOT NULL,
    delivered          boolean NOT NULL,
    status             integer,
    took_ms            bigint  NOT NULL,
    error              text,
    UNIQUE (webhook, fact_seq, attempt)
);
CREATE INDEX delivery_log_group ON delivery_log (notification_group, id);
