//! The states of an endpoint, and what a verdict can be.

#![allow(
    missing_debug_implementations,
    reason = "rkyv's derive writes resolvers without it; our own types have it"
)]

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! named_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize,
            Deserialize, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant = $code,)* }

        impl $name {
            /// Every value, in the order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the API and in Postgres.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The number in Postgres.
            #[must_use]
            pub const fn code(self) -> i16 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The value with this number.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The value with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named_enum! {
    /// The state of an endpoint (and, rolled up, of a site), worst last where they compare.
    State {
        /// Every vantage that looked found what was expected.
        Up = 1, "up";
        /// Up, with an advisory (a certificate that expires soon).
        Warning = 2, "warning";
        /// Down from some regions, up from others.
        Degraded = 3, "degraded";
        /// The owner failed twice; confirmation is under way.
        SeemsDown = 4, "seems_down";
        /// Confirmed by independent vantages.
        Down = 5, "down";
        /// Not probed, on request.
        Paused = 6, "paused";
        /// Excluded from SLA, announced.
        Maintenance = 7, "maintenance";
        /// Not observed: our own trouble, never the site's.
        Unknown = 8, "unknown";
    }
}

named_enum! {
    /// How a suspicion ended.
    Verdict {
        /// Enough independent vantages agree.
        ConfirmedDown = 1, "confirmed_down";
        /// Some regions see it down, others up.
        RegionalFailure = 2, "regional_failure";
        /// Nobody else sees it.
        FalseAlarm = 3, "false_alarm";
        /// Too few healthy vantages answered.
        Unknown = 4, "unknown";
        /// A second vantage sees it up again.
        ConfirmedUp = 5, "confirmed_up";
    }
}
