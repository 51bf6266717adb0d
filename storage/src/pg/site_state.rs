//! The one statement that moves a site's state when its endpoints move.
//!
//! A site keeps how many of its endpoints are in each state; a change is a difference of counts, so
//! its cost does not depend on the site's size. Whoever runs it holds the projector's cursor row,
//! because the differences are computed from what is stored.

/// Ends a statement that begins `WITH … delta AS (…)`, where `delta` has the columns `site, since,
/// warning, degraded, seems_down, down, maintenance, unknown`.
macro_rules! shift_sites {
    () => {
        "
    INSERT INTO site_state AS s
        (site, state, since, warning, degraded, seems_down, down, maintenance, unknown)
    SELECT site, worst_state(warning, degraded, seems_down, down, unknown), since,
        warning, degraded, seems_down, down, maintenance, unknown
    FROM delta
    ON CONFLICT (site) DO UPDATE SET
        warning = s.warning + excluded.warning, degraded = s.degraded + excluded.degraded,
        seems_down = s.seems_down + excluded.seems_down, down = s.down + excluded.down,
        maintenance = s.maintenance + excluded.maintenance, unknown = s.unknown + excluded.unknown,
        state = worst_state(s.warning + excluded.warning, s.degraded + excluded.degraded,
            s.seems_down + excluded.seems_down, s.down + excluded.down, s.unknown + excluded.unknown),
        since = CASE WHEN s.state = worst_state(s.warning + excluded.warning,
            s.degraded + excluded.degraded, s.seems_down + excluded.seems_down,
            s.down + excluded.down, s.unknown + excluded.unknown) THEN s.since ELSE excluded.since END"
    };
}

pub(crate) use shift_sites;
