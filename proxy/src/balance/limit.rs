//! How many requests a server may have in flight at this moment.
//!
//! Owns one rule: from the configured limits, the requests at the service and
//! the progress of a slow start to the limit in force. Pure arithmetic, after
//! HAProxy's `srv_dynamic_maxconn`; `roster` calls it and sets the gates.

/// What a server may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at once (HAProxy's `maxconn`).
    pub max_in_flight: u32,
    /// The least that the limit in force falls to while the service is idle; 0 is
    /// a fixed limit (HAProxy's `minconn`). One above the most raises the most.
    pub min_in_flight: u32,
    /// Requests waiting for just this server (HAProxy's `maxqueue`). Those that
    /// any server may answer wait at the service and do not count.
    pub max_queue: u32,
}

impl Limits {
    /// The highest that the limit can be in force; 0 is no limit.
    pub(super) fn most(self) -> u32 {
        self.max_in_flight.max(self.min_in_flight)
    }

    /// Whether the limit moves with the number of requests at the service.
    pub(super) const fn is_dynamic(self) -> bool {
        self.min_in_flight > 0 && self.min_in_flight < self.max_in_flight
    }

    /// The limit in force; 0 is none. A slow start lowers it below the least,
    /// but never below 1.
    pub(super) fn in_force(self, demand: Demand, share: Share) -> u32 {
        let most = self.most();
        let full = if self.is_dynamic() && demand.present < demand.full {
            let scaled = demand.present.saturating_mul(u64::from(most)) / demand.full;
            u32::try_from(scaled)
                .unwrap_or(most)
                .max(self.min_in_flight)
        } else {
            most
        };
        share.of(full)
    }
}

/// How busy a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// Requests in flight at its servers or waiting.
    pub(super) present: u64,
    /// How many of them call for every server's full limit.
    pub(super) full: u64,
}

/// How far a server has come in its slow start, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(pub(super) u32);

impl Share {
    /// All there is: no slow start, or one that is over.
    pub(super) const FULL: Self = Self(100);

    /// This share of a number, rounded down, but 1 at least of any but 0.
    pub(super) fn of(self, number: u32) -> u32 {
        if self == Self::FULL || number == 0 {
            return number;
        }
        let part = u64::from(number) * u64::from(self.0) / 100;
        u32::try_from(part).unwrap_or(number).clamp(1, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_in_flight: u32, min_in_flight: u32) -> Limits {
        Limits {
            max_in_flight,
            min_in_flight,
            max_queue: 0,
        }
    }

    #[test]
    fn the_limit_follows_the_demand_rounded_down() {
        // (max, min, present, full, limit)
        let cases = [
            (10, 0, 0, 100, 10),
            (0, 0, 50, 100, 0),
            (10, 2, 0, 100, 2),
            (10, 2, 29, 100, 2),
            (10, 2, 30, 100, 3),
            (10, 2, 39, 100, 3),
            (10, 2, 99, 100, 9),
            (10, 2, 100, 100, 10),
            (10, 2, 5000, 100, 10),
            (10, 2, 0, 0, 10),
            (10, 10, 0, 100, 10),
            (3, 8, 0, 100, 8),
            (0, 8, 0, 100, 8),
            (u32::MAX, 1, u64::MAX - 1, u64::MAX, 1),
        ];
        for (max, min, present, full, limit) in cases {
            let demand = Demand { present, full };
            let got = limits(max, min).in_force(demand, Share::FULL);
            assert_eq!(got, limit, "{max} {min} {present}/{full}");
        }
    }

    #[test]
    fn a_slow_start_scales_the_limit_from_one() {
        let shares = [
            (0, 1),
            (9, 1),
            (10, 1),
            (20, 2),
            (55, 5),
            (99, 9),
            (100, 10),
        ];
        for (share, limit) in shares {
            let got = limits(10, 4).in_force(Demand::default(), Share(share));
            assert_eq!(got, limit, "{share} %");
        }
        assert_eq!(limits(0, 0).in_force(Demand::default(), Share(5)), 0);
    }
}
